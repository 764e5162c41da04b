unit(evaluate)
# clformer-perplexity and clformer-imatrix as a user runs them, and beside llama.cpp
if(CLFORMER_EXAMPLES)
    add_test(NAME perplexity COMMAND ${PROJECT_SOURCE_DIR}/tests/perplexity.sh $<TARGET_FILE_DIR:clformer-perplexity>)
    set_tests_properties(perplexity PROPERTIES SKIP_RETURN_CODE 77)
endif()
