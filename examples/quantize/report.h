/* report.h: what clformer-quantize prints. */
#ifndef CLFORMER_EXAMPLES_QUANTIZE_REPORT_H
#define CLFORMER_EXAMPLES_QUANTIZE_REPORT_H

#include <clformer/clformer.h>

enum { WORST = 5 };

typedef struct report {
    bool quiet; /* totals alone */
    int64_t quantised;
    clf_quantized_tensor worst[WORST]; /* by relative error, greatest first */
    char names[WORST][64];
    int n_worst;
    char (*fell_back)[64]; /* names */
    int n_fell_back, capacity;
    bool out_of_memory;
} report;

/* clf_quantize_args.tensor: prints a line. */
bool report_tensor(void *report, const clf_quantized_tensor *tensor);
void report_totals(const report *r, const clf_quantize_result *result, double seconds);
void report_end(report *r);

#endif
