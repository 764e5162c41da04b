unit(ternary tests/op_decode.c tests/op_run.c)
unit(ternary_model tests/op_decode.c tests/op_run.c)
if(TARGET clformer_opencl) # by the kernels of cl/nvidia
    foreach(name ternary ternary_model)
        add_test(NAME ${name}-tensor-cores COMMAND test-${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}/tests)
        set_tests_properties(${name}-tensor-cores PROPERTIES SKIP_RETURN_CODE 77
            ENVIRONMENT "CLFORMER_MODULE_DIR=$<TARGET_FILE_DIR:clformer_opencl>;CLFORMER_OPENCL_TENSOR_CORES=emulate:80")
    endforeach()
endif()
