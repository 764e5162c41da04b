unit(hostile_safetensors)
