/* safetensors.c: any bytes as a safetensors file. */
#include <stddef.h>
#include <stdint.h>

#include "../../lib/model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t sum;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    clf_error err = {0};
    clf_safetensors *s;
    if (clf_safetensors_open(&s, &(clf_model_file_args){.data = data, .data_size = size}, &err) == CLF_OK)
        for (int64_t i = 0; i < clf_safetensors_count(s); i++) {
            const clf_file_tensor *t = clf_safetensors_at(s, i);
            for (uint64_t j = 0; j < t->nbytes; j++) sum += ((const uint8_t *)t->data)[j];
        }
    clf_safetensors_close(s);
    return 0;
}
