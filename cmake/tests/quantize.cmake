unit(quantize)
add_executable(test-print_logits tests/print_logits.c)
target_link_libraries(test-print_logits PRIVATE clformer clformer_flags)
if(CLFORMER_EXAMPLES)
    add_test(NAME quantize_command COMMAND ${PROJECT_SOURCE_DIR}/tests/quantize.sh $<TARGET_FILE_DIR:clformer-quantize>)
    find_program(CLFORMER_PYTHON python3)
    if(CLFORMER_PYTHON)
        add_test(NAME quantized_llamacpp COMMAND ${CLFORMER_PYTHON} ${PROJECT_SOURCE_DIR}/tests/quantized_llamacpp.py
                 $<TARGET_FILE_DIR:test-print_logits> ${PROJECT_SOURCE_DIR}/examples/default_model/default.gguf)
        add_test(NAME folder_llamacpp COMMAND ${CLFORMER_PYTHON} ${PROJECT_SOURCE_DIR}/tests/folder_llamacpp.py
                 $<TARGET_FILE_DIR:test-print_logits>)
        set_tests_properties(quantized_llamacpp folder_llamacpp PROPERTIES SKIP_RETURN_CODE 77)
    endif()
endif()
