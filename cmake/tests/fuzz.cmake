# CLFORMER_FUZZ (clang, preset "fuzz"): tests/fuzz/NAME.c makes fuzz-NAME, a libFuzzer target over the library's internals with
# everything instrumented; its seeds are tests/fuzz/corpus/NAME/*. CTest runs each for a moment; run one for long with
#     build-fuzz/bin/fuzz-NAME -timeout=20 -rss_limit_mb=3000 FOLDER tests/fuzz/corpus/NAME
# where FOLDER, empty at first, receives what is found on the way.
option(CLFORMER_FUZZ "Build the libFuzzer targets (needs clang)" OFF)
if(CLFORMER_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "CLFORMER_FUZZ: expected clang, got ${CMAKE_C_COMPILER_ID}")
    endif()
    target_compile_options(clformer_flags INTERFACE -fsanitize=fuzzer-no-link)
    file(GLOB fuzz_sources CONFIGURE_DEPENDS tests/fuzz/*.c)
    foreach(source IN LISTS fuzz_sources)
        get_filename_component(name ${source} NAME_WE)
        add_executable(fuzz-${name} ${source})
        target_link_libraries(fuzz-${name} PRIVATE clformer_internal clformer_flags)
        target_link_options(fuzz-${name} PRIVATE -fsanitize=fuzzer)
        add_test(NAME fuzz-${name} COMMAND fuzz-${name} -runs=20000 -max_total_time=20 -timeout=20
            ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
        set_tests_properties(fuzz-${name} PROPERTIES WORKING_DIRECTORY ${PROJECT_BINARY_DIR} LABELS fuzz)
    endforeach()
endif()
