/* attention_golden.h: other lists of runs for attention's op_case. */
#ifndef CLF_TESTS_ATTENTION_GOLDEN_H
#define CLF_TESTS_ATTENTION_GOLDEN_H

/* Runs every case of `--golden DIR` (cases.json, NAME.safetensors), forward and backward, as op_main() does, whose
 * other flags it takes; prints every error. */
int attention_golden(int argc, char **argv);

/* Runs the grid of FLASH_ATTN_EXT (attention_grid.c), all of it with `--nightly`; other flags as for op_main(). */
int attention_grid(int argc, char **argv);

#endif
