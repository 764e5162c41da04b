unit(ternary tests/op_decode.c tests/op_run.c)
if(TARGET clformer_opencl) # whole models by the kernels of cl/nvidia
    add_test(NAME ternary-tensor-cores COMMAND test-ternary)
    set_tests_properties(ternary-tensor-cores PROPERTIES SKIP_RETURN_CODE 77
        ENVIRONMENT "CLFORMER_MODULE_DIR=$<TARGET_FILE_DIR:clformer_opencl>;CLFORMER_OPENCL_TENSOR_CORES=emulate:80")
endif()
