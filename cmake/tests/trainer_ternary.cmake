unit(trainer_ternary)
