unit(folder_tokenizer)
target_link_libraries(test-folder_tokenizer PRIVATE PkgConfig::JANSSON)
