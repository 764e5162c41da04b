# The OpenCL backend: a module beside the library, which the registry loads at run time. It holds copies of the core's
# stateless parts and exports one symbol; what of them isn't used is dropped when it is linked.
find_package(OpenCL)
if(NOT OpenCL_FOUND)
    set(clformer_opencl_summary "not built: no headers or ICD loader found")
    return()
endif()

file(GLOB cl_sources CONFIGURE_DEPENDS cl/*.c cl/nvidia/*.c)
file(GLOB cl_kernels CONFIGURE_DEPENDS cl/*.cl cl/nvidia/*.cl cl/nvidia/warp*.h cl/nvidia/tile.h cl/nvidia/rules.h cl/nvidia/backward.h)
set(cl_core status.c dtype.c memory.c log.c)
list(TRANSFORM cl_core PREPEND lib/core/)
list(APPEND cl_core lib/ops/rope_frequencies.c lib/ops/optimizer_factors.c)

set(cl_embedded ${PROJECT_BINARY_DIR}/cl_sources.c)
add_custom_command(OUTPUT ${cl_embedded}
    COMMAND ${CMAKE_COMMAND} -DOUT=${cl_embedded} -P ${PROJECT_SOURCE_DIR}/cmake/embed.cmake -- ${cl_kernels}
    DEPENDS ${cl_kernels} ${PROJECT_SOURCE_DIR}/cmake/embed.cmake VERBATIM)

add_library(clformer_opencl MODULE ${cl_sources} ${cl_core} ${cl_embedded})
set_target_properties(clformer_opencl PROPERTIES PREFIX "" OUTPUT_NAME clformer-opencl LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cl/opencl.map)
target_include_directories(clformer_opencl PRIVATE include cl)
target_compile_options(clformer_opencl PRIVATE -ffunction-sections -fdata-sections)
target_link_libraries(clformer_opencl PRIVATE clformer_flags OpenCL::OpenCL PkgConfig::XXHASH m)
target_link_options(clformer_opencl PRIVATE -Wl,--version-script=${PROJECT_SOURCE_DIR}/cl/opencl.map -Wl,--gc-sections)
find_package(CLBlast CONFIG QUIET) # it has no version file
set(clblast_text "not found")
if(CLBlast_FOUND)
    set(clblast_text "found")
    target_compile_definitions(clformer_opencl PRIVATE CLF_CLBLAST)
    target_link_libraries(clformer_opencl PRIVATE clblast)
endif()
install(TARGETS clformer_opencl LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/clformer)
set(clformer_opencl_summary "module, ICD loader ${OpenCL_LIBRARIES}, CLBlast ${clblast_text}")
