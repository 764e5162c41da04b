/* peft.h: adapter_config.json of PEFT, as far as it decides how a LoRA adapter is applied. */
#ifndef CLF_MODEL_PEFT_H
#define CLF_MODEL_PEFT_H

#include <jansson.h>

#include "../core/status.h"

typedef struct clf_peft clf_peft;

/* `root` isn't kept. CLF_UNSUPPORTED for what is no plain LoRA (DoRA, biases, …). */
clf_status clf_peft_create(clf_peft **out, json_t *root, clf_error *err);
void clf_peft_destroy(clf_peft *peft); /* NULL is accepted */
/* Scale of a module ("model.layers.3.self_attn.q_proj") whose A has `rank` rows; CLF_BAD_FILE if the configuration says
 * another rank. */
clf_status clf_peft_scale(const clf_peft *peft, const char *module, int64_t rank, float *scale, clf_error *err);

#endif
