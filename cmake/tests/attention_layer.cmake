unit(attention_layer)
