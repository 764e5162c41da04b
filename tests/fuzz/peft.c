/* peft.c: any bytes as an adapter_config.json, whose patterns are then matched. */
#include <stddef.h>
#include <stdint.h>

#include "../../lib/model/json.h"
#include "../../lib/model/peft.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    clf_error err = {0};
    json_t *root;
    clf_peft *peft;
    float scale;
    if (clf_json_parse(&root, data, size, "config", &err) != CLF_OK) return 0;
    if (clf_peft_create(&peft, root, &err) == CLF_OK) {
        clf_peft_scale(peft, "model.layers.3.self_attn.q_proj", 4, &scale, &err);
        clf_peft_scale(peft, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 8, &scale, &err);
    }
    clf_peft_destroy(peft);
    json_decref(root);
    return 0;
}
