# clformer-finetune as a user runs it
if(CLFORMER_EXAMPLES)
    add_test(NAME finetune COMMAND ${PROJECT_SOURCE_DIR}/tests/finetune.sh $<TARGET_FILE_DIR:clformer-finetune>)
    set_tests_properties(finetune PROPERTIES SKIP_RETURN_CODE 77 LABELS train ENVIRONMENT OMP_WAIT_POLICY=passive)
endif()
