target_sources(test-linear PRIVATE tests/linear_rejects.c)
