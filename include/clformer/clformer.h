/** @file clformer.h
 *  clformer: transformer inference and fine-tuning in plain C. Includes every public header but opencl.h.
 *
 *  Five nouns: a context is one device, a tensor lives on it, an op is a function of tensors, a model is weights with
 *  their tokenizer, a session is one use of a model. The library never prints, exits or aborts: each failure is a
 *  clf_status, and clf_error_message() says what, where, expected and got. */
#ifndef CLFORMER_H
#define CLFORMER_H

#include "base.h"
#include "context.h"
#include "memory.h"
#include "model.h"
#include "ops.h"
#include "planes.h"
#include "quantize.h"
#include "tensor.h"
#include "train.h"
#include "version.h"

#endif
