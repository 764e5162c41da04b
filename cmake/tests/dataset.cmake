unit(dataset)
target_link_libraries(test-dataset PRIVATE PkgConfig::JANSSON)
