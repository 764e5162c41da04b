target_sources(test-attention PRIVATE tests/attention_variants.c tests/attention_reference.c tests/attention_rejects.c tests/attention_golden.c)
target_link_libraries(test-attention PRIVATE clformer_golden)
add_test(NAME attention-golden COMMAND test-attention --golden ${PROJECT_SOURCE_DIR}/tests/golden/attention)
set_tests_properties(attention-golden PROPERTIES SKIP_RETURN_CODE 77)
