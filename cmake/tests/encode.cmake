unit(encode $<TARGET_OBJECTS:clformer_test_support>)
target_link_libraries(test-encode PRIVATE clformer_golden)
