unit(hostile_model)
