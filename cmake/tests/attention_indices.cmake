# through the library and the module, as programs do
if(TARGET clformer_opencl AND BUILD_SHARED_LIBS)
    add_executable(test-attention_indices tests/attention_indices.c)
    target_link_libraries(test-attention_indices PRIVATE clformer clformer_flags PkgConfig::CMOCKA)
    add_test(NAME attention_indices COMMAND test-attention_indices)
    set_tests_properties(attention_indices PROPERTIES SKIP_RETURN_CODE 77)
endif()
