/* dlpack.h: DLPack's C structures (github.com/dmlc/dlpack, ABI of version 0.8, which 1.x still exchanges as
 * DLManagedTensor). The names are the standard's; users include its own header. */
#ifndef CLF_CORE_DLPACK_H
#define CLF_CORE_DLPACK_H

#include <stdint.h>

typedef struct DLDevice {
    int32_t device_type; /* DL_CPU */
    int32_t device_id;
} DLDevice;

typedef struct DLDataType {
    uint8_t code; /* DL_INT … */
    uint8_t bits;
    uint16_t lanes;
} DLDataType;

typedef struct DLTensor {
    void *data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape;
    int64_t *strides; /* in elements; NULL: contiguous */
    uint64_t byte_offset;
} DLTensor;

typedef struct DLManagedTensor {
    DLTensor dl_tensor;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensor *self);
} DLManagedTensor;

enum { DL_CPU = 1, DL_INT = 0, DL_UINT = 1, DL_FLOAT = 2, DL_BFLOAT = 4, DL_BOOL = 6 };

#endif
