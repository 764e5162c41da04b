/* transfer.h: copies between a device with memory of its own and the host that go on while ops run, to and from host
 * memory made for it. A copy sees what the ops called before it have written; those called after clf_transfer_join()
 * see what it has. Until then what it reads must stay, and what it writes is nobody's. */
#ifndef CLF_CORE_TRANSFER_H
#define CLF_CORE_TRANSFER_H

#include "tensor.h"

clf_status clf_transfer_alloc(clf_memory *out, clf_context *ctx, size_t bytes);
void clf_transfer_free(clf_context *ctx, clf_memory *memory); /* waits for copies on their way; accepts zeros */

/* Starts the copy of a contiguous tensor's bytes to or from the beginning of `host`. */
clf_status clf_transfer_to_host(const clf_tensor *t, const clf_memory *host);
clf_status clf_transfer_to_device(const clf_tensor *t, const clf_memory *host);

/* Nothing to do where no copy has been started. */
clf_status clf_transfer_join(clf_context *ctx);

#endif
