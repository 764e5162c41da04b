unit(hostile_gguf)
