/* attention_golden.h: the golden cases of attention. */
#ifndef CLF_TESTS_ATTENTION_GOLDEN_H
#define CLF_TESTS_ATTENTION_GOLDEN_H

/* Runs every case of `--golden DIR` (cases.json, NAME.safetensors) on every usable device, or those of `--device D`
 * (repeatable). Prints the errors of o and lse; the last line is "N passed, N failed, N skipped". Returns the exit
 * code: 0, 1 if anything failed, 77 if nothing but skips ran, 2 for wrong flags. */
int attention_golden(int argc, char **argv);

#endif
