unit(estimate)
