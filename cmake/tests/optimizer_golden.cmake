# the exported library, so that the OpenCL module's devices are in it too
add_executable(test-optimizer_golden tests/optimizer_golden.c)
target_link_libraries(test-optimizer_golden PRIVATE clformer clformer_golden clformer_flags PkgConfig::CMOCKA m)
add_test(NAME optimizer_golden COMMAND test-optimizer_golden WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}/tests)
