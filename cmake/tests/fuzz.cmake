# CLFORMER_FUZZ (clang; preset "fuzz"): tests/fuzz/NAME.c makes fuzz-NAME, a libFuzzer target over the library's internals, with
# address and undefined-behaviour sanitizers; its seeds are tests/fuzz/corpus/NAME/*. The targets are built by name or as "fuzz",
# from lib/ alone: what they test calls no op. CTest runs each for a moment; run one for long with
#     build-fuzz/bin/fuzz-NAME -timeout=20 -rss_limit_mb=3000 FOLDER tests/fuzz/corpus/NAME
# where FOLDER, empty at first, receives what is found on the way.
option(CLFORMER_FUZZ "Build the libFuzzer targets (needs clang)" OFF)
if(CLFORMER_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID MATCHES "Clang")
        message(FATAL_ERROR "CLFORMER_FUZZ: expected clang, got ${CMAKE_C_COMPILER_ID}")
    endif()
    set(fuzz_flags -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined)
    add_library(clformer_fuzz STATIC EXCLUDE_FROM_ALL ${lib_sources})
    target_include_directories(clformer_fuzz PUBLIC include)
    target_compile_definitions(clformer_fuzz PRIVATE CLF_MODULE_DIR="")
    target_compile_options(clformer_fuzz PRIVATE ${fuzz_flags} -fsanitize=fuzzer-no-link)
    target_link_libraries(clformer_fuzz PRIVATE clformer_flags PUBLIC ${clformer_private})
    add_custom_target(fuzz)
    file(GLOB fuzz_sources CONFIGURE_DEPENDS tests/fuzz/*.c)
    foreach(source IN LISTS fuzz_sources)
        get_filename_component(name ${source} NAME_WE)
        add_executable(fuzz-${name} EXCLUDE_FROM_ALL ${source})
        target_compile_options(fuzz-${name} PRIVATE ${fuzz_flags})
        target_compile_definitions(fuzz-${name} PRIVATE CLF_GOLDEN="${PROJECT_SOURCE_DIR}/tests/golden")
        target_link_libraries(fuzz-${name} PRIVATE clformer_fuzz clformer_flags)
        target_link_options(fuzz-${name} PRIVATE ${fuzz_flags} -fsanitize=fuzzer)
        add_dependencies(fuzz fuzz-${name})
        file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/found/${name})
        add_test(NAME fuzz-${name} COMMAND fuzz-${name} -runs=20000 -max_total_time=20 -timeout=20 found/${name}
            ${PROJECT_SOURCE_DIR}/tests/fuzz/corpus/${name})
        set_tests_properties(fuzz-${name} PROPERTIES WORKING_DIRECTORY ${PROJECT_BINARY_DIR} LABELS fuzz)
    endforeach()
endif()
