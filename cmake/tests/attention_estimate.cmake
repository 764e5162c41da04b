unit(attention_estimate)
