unit(packed)
target_link_libraries(test-packed PRIVATE clformer_golden)
