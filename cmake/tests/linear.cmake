target_sources(test-linear PRIVATE tests/linear_variants.c tests/linear_rejects.c)
