# examples/NAME.c makes clformer-NAME.
file(GLOB example_sources CONFIGURE_DEPENDS examples/*.c)
set(CMAKE_INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
foreach(source IN LISTS example_sources)
    get_filename_component(name ${source} NAME_WE)
    add_executable(clformer-${name} ${source})
    target_link_libraries(clformer-${name} PRIVATE clformer clformer_flags m)
    install(TARGETS clformer-${name} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endforeach()
