unit(attention_memory)
