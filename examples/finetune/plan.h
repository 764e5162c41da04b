/* plan.h: what a run will take, and what would take less. */
#ifndef FINETUNE_PLAN_H
#define FINETUNE_PLAN_H

#include "run.h"

/* The context length that is used if none is given. */
int64_t plan_default_context(int64_t trained);
/* An exit status: failure if the options want what this device doesn't have. */
int plan_check_device(run *r);
/* --dry-run: prints memory by part and the speed to expect. Loads nothing. Returns an exit status: failure if it won't
 * fit. */
int plan_print(run *r);
/* Says, if it can, which options would fit the device's limit. */
void plan_suggest(run *r);

#endif
