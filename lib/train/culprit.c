/* culprit.c: which weight isn't finite, when a loss isn't: the parameters first, then what is frozen. Block dtypes are
 * passed over: they were made from finite values, or by others. */
#include <stdlib.h>

#include "../model/saved_tensors.h"
#include "trainer.h"

static bool is_finite(const clf_tensor *t) {
    if (!t->buffer || !clf_dtype_is_float(t->dtype)) return true;
    const int64_t n = clf_elements(t);
    const size_t bytes = clf_dtype_bytes(t->dtype, n);
    void *values = malloc(bytes);
    const bool finite = !values || clf_tensor_read(t, values, bytes) != CLF_OK || clf_all_finite(values, t->dtype, n);
    free(values);
    return finite;
}

const char *clf_trainer_culprit(const clf_trainer *t, char name[CLF_WEIGHT_NAME_SIZE]) {
    const clf_model *m = t->args.model;
    for (int i = 0; i < t->parameters.count; i++)
        if (!is_finite(&t->parameters.all[i].master)) return t->parameters.all[i].name;
    if (!is_finite(&m->embedding)) return "token_embd.weight";
    for (int i = 0; i < m->config.n_layers; i++)
        for (int id = 0; id < CLF_W_COUNT; id++)
            if (!is_finite(&m->layers[i].weight[id])) return clf_weight_name(name, i, (clf_weight)id);
    if (!is_finite(&m->output_norm)) return "output_norm.weight";
    return is_finite(&m->output) ? NULL : "output.weight";
}
