unit(nf4)
target_link_libraries(test-nf4 PRIVATE clformer_golden)
