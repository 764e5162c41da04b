# What was found, in a few lines.
list(JOIN clformer_isas ", " isa_text)
message(STATUS "clformer ${PROJECT_VERSION}: ${CMAKE_BUILD_TYPE}, ${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}")
message(STATUS "  CPU tables: ${isa_text}")
message(STATUS "  OpenCL:     ${clformer_opencl_summary}")
message(STATUS "  OpenMP ${OpenMP_C_VERSION}, hwloc ${HWLOC_VERSION}, jansson ${JANSSON_VERSION}, PCRE2 ${PCRE2_VERSION}, utf8proc ${UTF8PROC_VERSION}, xxhash ${XXHASH_VERSION}")
message(STATUS "  tests ${CLFORMER_TESTS}, programs ${CLFORMER_EXAMPLES}, benchmarks ${CLFORMER_BENCH}, sanitizers '${CLFORMER_SANITIZE}'")
