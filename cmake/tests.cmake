# tests/NAME.c makes test-NAME. Op tests share op_test.c; unit tests use cmocka and link the library's objects, so that they reach
# what isn't exported.
pkg_check_modules(CMOCKA REQUIRED IMPORTED_TARGET cmocka)
add_library(clformer_internal INTERFACE) # objects, not an archive: the tables' references to ops are weak
target_sources(clformer_internal INTERFACE ${clformer_objects_all})
target_include_directories(clformer_internal INTERFACE include)
target_link_libraries(clformer_internal INTERFACE ${clformer_private})
add_library(clformer_test_support OBJECT tests/op_test.c tests/op_run.c tests/op_decode.c tests/op_slope.c)
target_include_directories(clformer_test_support PRIVATE include)
target_link_libraries(clformer_test_support PRIVATE clformer_flags)
# reads the golden data: safetensors, with jansson alone
add_library(clformer_golden STATIC tests/golden.c)
target_include_directories(clformer_golden PUBLIC tests)
target_link_libraries(clformer_golden PUBLIC PkgConfig::JANSSON PRIVATE clformer_flags m)

file(STRINGS lib/ops/ops.def ops REGEX "^CLF_OP\\(")
list(TRANSFORM ops REPLACE "CLF_OP\\((.*)\\)" "\\1")
file(GLOB test_sources CONFIGURE_DEPENDS tests/*.c) # so that a new one is seen
foreach(op IN LISTS ops)
    if(EXISTS ${PROJECT_SOURCE_DIR}/tests/${op}.c)
        add_executable(test-${op} tests/${op}.c $<TARGET_OBJECTS:clformer_test_support>)
        target_link_libraries(test-${op} PRIVATE clformer clformer_flags m)
        add_test(NAME ${op} COMMAND test-${op})
        # waiting threads sleep: on a busy machine they would take the time of those that work
        set_tests_properties(${op} PROPERTIES SKIP_RETURN_CODE 77 LABELS threads ENVIRONMENT OMP_WAIT_POLICY=passive)
    endif()
endforeach()

if(TARGET clformer_opencl)
    foreach(dtype f16 bf16) # most of the time goes to compiling a program for each set of features
        foreach(sm 80 90) # 90: with wgmma
            set(name attention-tensor-cores-${sm}-${dtype})
            add_test(NAME ${name} COMMAND ${PROJECT_SOURCE_DIR}/tests/tensor_cores.sh $<TARGET_FILE:test-attention> --dtype ${dtype} --most-cost 3e5)
            set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77 ENVIRONMENT CLFORMER_OPENCL_TENSOR_CORES=emulate:${sm})
        endforeach()
    endforeach()
    foreach(dtype f32 f16 bf16)
        add_test(NAME linear-tensor-cores-${dtype} COMMAND ${PROJECT_SOURCE_DIR}/tests/tensor_cores.sh $<TARGET_FILE:test-linear> --dtype ${dtype} --most-cost 3e5)
        set_tests_properties(linear-tensor-cores-${dtype} PROPERTIES SKIP_RETURN_CODE 77)
    endforeach()
endif()

# unit(NAME [SOURCES...]): test-NAME from tests/NAME.c with cmocka and the library's internals, which look for the OpenCL module where
# it was built
function(unit name)
    add_executable(test-${name} tests/${name}.c ${ARGN})
    target_link_libraries(test-${name} PRIVATE clformer_internal clformer_flags PkgConfig::CMOCKA)
    add_test(NAME ${name} COMMAND test-${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR}/tests)
    set_tests_properties(${name} PROPERTIES SKIP_RETURN_CODE 77)
    if(TARGET clformer_opencl)
        set_tests_properties(${name} PROPERTIES ENVIRONMENT CLFORMER_MODULE_DIR=$<TARGET_FILE_DIR:clformer_opencl>)
    endif()
endfunction()
file(GLOB unit_lists CONFIGURE_DEPENDS cmake/tests/*.cmake)
foreach(list IN LISTS unit_lists)
    include(${list})
endforeach()
