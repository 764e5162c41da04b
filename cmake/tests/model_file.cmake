unit(model_file)
