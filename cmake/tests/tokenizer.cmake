unit(tokenizer)
target_link_libraries(test-tokenizer PRIVATE PkgConfig::JANSSON)
