unit(generate)
