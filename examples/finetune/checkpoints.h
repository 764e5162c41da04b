/* checkpoints.h: the checkpoint files of a run's folder: DIR/checkpoint-000120.safetensors is the state after step 120.
 */
#ifndef FINETUNE_CHECKPOINTS_H
#define FINETUNE_CHECKPOINTS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PATH_SIZE = 4096 };

void checkpoint_path(char path[PATH_SIZE], const char *folder, int64_t step);
/* The greatest step below `below` that has a checkpoint; −1: none. */
int64_t checkpoint_before(const char *folder, int64_t below);
/* Removes all but the `keep` newest up to `step`. */
void checkpoints_prune(const char *folder, int64_t step, int64_t keep);
/* Those after `step` get ".old" behind their names: the run goes another way. Returns how many. */
int checkpoints_set_aside(const char *folder, int64_t step);
/* Removes what a killed run had begun to write. */
void checkpoints_clean(const char *folder);

/* The text that clf_trainer_save() put into the file, unchecked; NULL: it can't be read. */
json_t *checkpoint_peek(const char *path);

#endif
