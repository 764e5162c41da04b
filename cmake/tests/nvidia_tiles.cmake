if(TARGET clformer_opencl)
    unit(nvidia_tiles cl/nvidia/ptx.c)
    target_link_libraries(test-nvidia_tiles PRIVATE OpenCL::OpenCL)
endif()
