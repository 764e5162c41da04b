unit(attention_gradient tests/attention_variants.c tests/attention_reference.c $<TARGET_OBJECTS:clformer_test_support>)
