unit(packed)
unit(packed_converted)
target_link_libraries(test-packed PRIVATE clformer_golden)
target_link_libraries(test-packed_converted PRIVATE clformer_golden)
