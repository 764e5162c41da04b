unit(kv_cache)
if(TARGET clformer_opencl)
    set_tests_properties(kv_cache PROPERTIES ENVIRONMENT CLFORMER_MODULE_DIR=$<TARGET_FILE_DIR:clformer_opencl>)
endif()
