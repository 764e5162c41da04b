# the exported library, so that the OpenCL module's devices are in it too
add_executable(test-hostile_api tests/hostile_api.c)
target_link_libraries(test-hostile_api PRIVATE clformer clformer_flags PkgConfig::CMOCKA Threads::Threads m)
add_test(NAME hostile_api COMMAND test-hostile_api)
set_tests_properties(hostile_api PROPERTIES LABELS threads)
