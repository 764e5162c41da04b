unit(trainer)
