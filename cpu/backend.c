/* backend.c: the table of one instruction set. Memory is the host's, shared by all. */
#include "cpu.h"

#include "host.h"

const clf_backend CLF_PASTE(clf_backend, _, CLF_ISA) = {
    .abi = CLF_BACKEND_ABI,
    .name = "cpu-" CLF_ISA_NAME,
    .host = true,
#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__)
    .ternary = CLF_T1,
#else
    .ternary = CLF_T2,
#endif
    .open = clf_host_open,
    .close = clf_host_close,
    .alloc = clf_host_alloc,
    .free = clf_host_free,
    .write = clf_host_write,
    .read = clf_host_read,
    .clear = clf_host_clear,
    .sync = clf_host_sync,
#define CLF_OP(op) .op = CPU_FN(op),
#include "../lib/ops/ops.def"
#undef CLF_OP
};
