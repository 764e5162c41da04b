/* attention_golden.h: the golden cases of attention. */
#ifndef CLF_TESTS_ATTENTION_GOLDEN_H
#define CLF_TESTS_ATTENTION_GOLDEN_H

/* Runs every case of `--golden DIR` (cases.json, NAME.safetensors), forward and backward, as op_main() does, whose
 * other flags it takes; prints every error. */
int attention_golden(int argc, char **argv);

#endif
