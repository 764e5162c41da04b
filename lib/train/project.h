/* project.h: products of one x by the matrices of a block, each with its bias and adapter, and their gradients:
 *
 *     out = x·Wᵀ + bias (+ residual) + scale · (seen(x)·Aᵀ)·Bᵀ
 *
 * seen(x) is x, or with dropout a part of it, another one for each adapter; in ternary training x itself is rounded
 * first, and its gradient taken for that of what it was. `first` and `count` name the matrices. */
#ifndef CLF_TRAIN_PROJECT_H
#define CLF_TRAIN_PROJECT_H

#include "layer.h"

/* [T, width] at column block `*at` of a work tensor, which moves on: blocks lie one after another, each contiguous. */
clf_tensor clf_work_take(const clf_tensor *work, int64_t *at, int64_t width);
clf_status clf_project(const clf_pass *pass, const clf_layer *layer, clf_weight first, int count, const clf_tensor *x,
                       const clf_tensor *residual, clf_tensor *out);
/* Gradients: by the weights where x is given, by x where d_x is. */
clf_status clf_project_backward(const clf_pass *pass, const clf_layer *layer, const clf_layer_gradients *gradients,
                                clf_weight first, int count, const clf_tensor *x, const clf_tensor *d_out,
                                clf_tensor *d_x);
/* Whether anything of these products is trained, so that their x is needed. */
bool clf_trained(const clf_layer_gradients *gradients, clf_weight first, int count);

#endif
