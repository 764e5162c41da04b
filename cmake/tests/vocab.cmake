# test-vocab PATH...: tokenizers against expected ids
add_executable(test-vocab tests/vocab.c)
target_link_libraries(test-vocab PRIVATE clformer clformer_flags PkgConfig::JANSSON)
add_test(NAME vocab COMMAND test-vocab golden/vocab golden/tokenizers WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}/tests)
set_tests_properties(vocab PROPERTIES SKIP_RETURN_CODE 77)
