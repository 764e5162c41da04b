/* plan.h: what a run will take, and what would take less. */
#ifndef FINETUNE_PLAN_H
#define FINETUNE_PLAN_H

#include "run.h"

/* The context length that is used if none is given. */
int64_t plan_default_context(int64_t trained);
/* --dry-run: prints memory by part and the speed to expect. Loads nothing. Returns an exit status: failure if it won't
 * fit. */
int plan_print(run *r);
/* Says, if it can, which options would fit the device's limit. */
void plan_suggest(run *r);

#endif
