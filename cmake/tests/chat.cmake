unit(chat)
target_link_libraries(test-chat PRIVATE PkgConfig::JANSSON)
