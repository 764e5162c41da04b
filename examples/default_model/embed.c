/* embed.c: puts the GGUF file named by CLF_DEFAULT_MODEL into the program; without it, an empty one. */
#include "default_model.h"

#ifdef CLF_DEFAULT_MODEL
__asm__(".section .rodata\n"
        ".global clf_default_model\n"
        ".global clf_default_model_end\n"
        ".balign 64\n"
        "clf_default_model:\n"
        ".incbin \"" CLF_DEFAULT_MODEL "\"\n"
        "clf_default_model_end:\n"
        ".byte 0\n"
        ".previous\n");
extern const unsigned char clf_default_model_end[];
#else
const unsigned char clf_default_model[1];
#define clf_default_model_end clf_default_model
#endif

size_t clf_default_model_size(void) {
    return (size_t)(clf_default_model_end - clf_default_model);
}
