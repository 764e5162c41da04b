add_executable(test-op_runner tests/op_runner.c $<TARGET_OBJECTS:clformer_test_support>)
target_link_libraries(test-op_runner PRIVATE clformer clformer_flags m)
add_test(NAME op_runner COMMAND test-op_runner)
