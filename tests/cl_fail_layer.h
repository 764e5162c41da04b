/* cl_fail_layer.h: what a test sets and reads of the layer. */
#ifndef CLF_TESTS_CL_FAIL_LAYER_H
#define CLF_TESTS_CL_FAIL_LAYER_H

#include <stdbool.h>

#define CL_TARGET_OPENCL_VERSION 300
#include <CL/cl.h>

typedef struct cl_fail_state {
    int at;             /* the call (of all kinds) that fails, counted from 1; 0: none */
    cl_int error;       /* what it answers */
    int calls;          /* so far */
    bool only_copies;   /* of the kinds that copies take which nobody waits for */
    int copies;         /* of those so far */
    bool late_copies;   /* they begin when a queue has come to wait for them, and not before */
    int sources;        /* programs made from source so far */
    int binaries;       /* programs made from binaries so far */
    bool break_sources; /* programs get a source that can't be built */
    /* in programs' sources, what of them becomes what, as long; NULL: none */
    const char *find, *replace;
} cl_fail_state;

cl_fail_state *cl_fail(void);

#endif
