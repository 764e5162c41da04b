unit(core)
