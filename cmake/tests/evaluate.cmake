unit(evaluate)
# clformer-perplexity and clformer-imatrix as a user runs them, and beside llama.cpp
if(CLFORMER_EXAMPLES)
    add_test(NAME perplexity COMMAND ${PROJECT_SOURCE_DIR}/tests/perplexity.sh $<TARGET_FILE_DIR:clformer-perplexity>)
    set_tests_properties(perplexity PROPERTIES SKIP_RETURN_CODE 77)
    find_program(CLFORMER_PYTHON python3)
    if(CLFORMER_PYTHON)
        add_test(NAME perplexity_llamacpp COMMAND ${CLFORMER_PYTHON} ${PROJECT_SOURCE_DIR}/tests/perplexity_llamacpp.py
                 $<TARGET_FILE_DIR:clformer-perplexity> ${PROJECT_SOURCE_DIR}/examples/default_model/default.gguf
                 ${PROJECT_SOURCE_DIR}/examples/finetune.jsonl 128)
        set_tests_properties(perplexity_llamacpp PROPERTIES SKIP_RETURN_CODE 77)
    endif()
endif()
