unit(evaluate)
