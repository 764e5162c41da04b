unit(tokenizer)
unit(hostile_tokenizer)
target_link_libraries(test-tokenizer PRIVATE PkgConfig::JANSSON)
target_link_libraries(test-hostile_tokenizer PRIVATE PkgConfig::JANSSON)
