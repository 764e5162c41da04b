unit(generate)
# clformer-generate as a user runs it: prompts from files
if(CLFORMER_EXAMPLES)
    add_test(NAME generate_command COMMAND ${PROJECT_SOURCE_DIR}/tests/generate.sh $<TARGET_FILE_DIR:clformer-generate>)
endif()
