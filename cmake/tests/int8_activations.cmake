unit(int8_activations tests/op_decode.c tests/op_run.c)
