/* adapter_modules.h: the adapter that a model carries, matrix by matrix, as files have it: one pair A [rank, k], B [n,
 * rank] a module, where a fused module's parts are put together.
 *
 * Embedding and output matrix come with it where they were trained as a whole.
 *
 * Parts with one A between them (an adapter made for the fused module) share it; otherwise their A's follow one another
 * and B is block-diagonal. */
#ifndef CLF_MODEL_ADAPTER_MODULES_H
#define CLF_MODEL_ADAPTER_MODULES_H

#include "model.h"
#include "tensor_writer.h"

typedef struct clf_adapter_module {
    const clf_tensor_rule *rule;
    int layer;
    const clf_tensor_rule *part_rule[3]; /* of one matrix: its own, alone */
    const clf_lora *part[3];             /* NULL: that part isn't adapted */
    bool shared;                         /* one A */
    int64_t n, k, rank;
    float scale; /* of the first part; B of the others takes up what theirs differ by */
} clf_adapter_module;

typedef struct clf_adapter_modules {
    const clf_model *model;
    int64_t count;
    clf_adapter_module *module;
    int64_t rank; /* the most frequent one */
    double alpha; /* the most frequent scale · rank */
    int n_whole;  /* matrices that were trained as a whole */
    struct {
        const char *name; /* in a PEFT adapter */
        const clf_tensor *weight;
    } whole[2];
} clf_adapter_modules;

clf_status clf_adapter_modules_list(clf_adapter_modules *out, const clf_model *model, clf_error *err);
void clf_adapter_modules_free(clf_adapter_modules *modules);
static inline double clf_adapter_alpha(const clf_adapter_module *m) {
    return (double)m->scale * (double)m->rank;
}
/* What a module is called, without ".weight". */
typedef void (*clf_adapter_name)(char *out, size_t size, const clf_adapter_module *module);
/* Writes all pairs and whole matrices: A as NAME + a, B as NAME + b, with B's rows of queries and keys in order
 * `pairing`. `alpha` not 0: it is every module's, and B takes up what a module's own differs by. CLF_NOT_FINITE for an
 * infinity or NaN. */
clf_status clf_adapter_modules_write(const clf_adapter_modules *modules, const clf_tensor_writer *writer,
                                     clf_rope_pairing pairing, double alpha, clf_adapter_name name, const char *a,
                                     const char *b, clf_error *err);

#endif
