unit(schedule)
