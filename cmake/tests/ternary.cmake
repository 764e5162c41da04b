unit(ternary tests/op_decode.c tests/op_run.c)
