/* backend.c: the table of the OpenCL backend, the one symbol that the module exports. */
#include "cl.h"

CLF_API const clf_backend clf_backend_opencl;
const clf_backend clf_backend_opencl = {
    .abi = CLF_BACKEND_ABI,
    .name = "opencl",
    .ternary = CLF_T2,
    .devices = clf_cl_devices,
    .open = clf_cl_open,
    .close = clf_cl_close,
    .alloc = clf_cl_alloc,
    .free = clf_cl_free,
    .write = clf_cl_write,
    .read = clf_cl_read,
    .clear = clf_cl_clear,
    .sync = clf_cl_sync,
    .host_alloc = clf_cl_host_alloc,
    .host_free = clf_cl_host_free,
    .start_write = clf_cl_start_write,
    .start_read = clf_cl_start_read,
    .join = clf_cl_join,
    .native = clf_cl_native,
    .adopt = clf_cl_adopt,
    .disown = clf_cl_disown,
    .tune = clf_cl_tune,
#define CLF_OP(op) .op = clf_##op##_opencl,
#include "../lib/ops/ops.def"
#undef CLF_OP
};
