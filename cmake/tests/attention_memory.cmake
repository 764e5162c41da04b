# through the library and the module, as programs do
if(TARGET clformer_opencl AND BUILD_SHARED_LIBS)
    add_executable(test-attention_memory tests/attention_memory.c)
    target_link_libraries(test-attention_memory PRIVATE clformer clformer_flags PkgConfig::CMOCKA)
    add_test(NAME attention_memory COMMAND test-attention_memory)
else()
    unit(attention_memory)
endif()
