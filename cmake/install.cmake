# cmake --install, find_package(clformer), clformer.pc.
include(CMakePackageConfigHelpers)

install(TARGETS clformer EXPORT clformer LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/clformer DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(EXPORT clformer NAMESPACE clformer:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/clformer FILE clformerTargets.cmake)
configure_package_config_file(cmake/clformerConfig.cmake.in ${PROJECT_BINARY_DIR}/clformerConfig.cmake
    INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/clformer)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/clformerConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/clformerConfig.cmake ${PROJECT_BINARY_DIR}/clformerConfigVersion.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/clformer)

configure_file(cmake/clformer.pc.in ${PROJECT_BINARY_DIR}/clformer.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/clformer.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
