unit(session)
