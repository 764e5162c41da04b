/* tokenizer_model.c: any bytes as a tokenizer.model; one that is accepted works on a short text. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../../lib/model/tokenizer_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char text[] = "Ab <s>\xC3\xA9 1\xF0\x9F\x98\x80\xFF </s>  x";
    clf_error err = {0};
    clf_tokenizer *t;
    int32_t ids[64];
    char back[256];
    size_t n, length;
    if (clf_tokenizer_from_model(&t, (const char *)data, size, &err) != CLF_OK) return 0;
    if (clf_tokenizer_finish(t, &err) == CLF_OK)
        for (int flags = 0; flags < 4; flags++) {
            clf_tokenize(t, text, sizeof text - 1, flags, ids, 64, &n);
            clf_detokenize(t, ids, n < 64 ? n : 64, flags & 1, back, sizeof back, &length);
        }
    clf_tokenizer_destroy(t);
    return 0;
}
