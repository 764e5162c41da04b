/* default_model.h: the model embedded in the programs, a GGUF file in memory. */
#ifndef CLF_DEFAULT_MODEL_H
#define CLF_DEFAULT_MODEL_H

#include <stddef.h>

extern const unsigned char clf_default_model[];
size_t clf_default_model_size(void); /* 0: this build has none */

#endif
