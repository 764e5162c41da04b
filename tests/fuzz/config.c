/* config.c: any bytes as a config.json. */
#include <stddef.h>
#include <stdint.h>

#include "../../lib/model/read_config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static clf_config config;
    const clf_architecture *architecture;
    clf_error err = {0};
    if (clf_config_from_json(&config, &architecture, (const char *)data, size, &err) == CLF_OK)
        clf_config_check(&config, &err);
    return 0;
}
