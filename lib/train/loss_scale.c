/* loss_scale.c: the scale of the loss, and how it follows overflows. */
#include <float.h>
#include <math.h>

#include <clformer/train.h>

clf_loss_scale_state clf_loss_scale_start(const clf_loss_scale_args *args) {
    const float initial = args->initial > 0 ? args->initial : 65536;
    return (clf_loss_scale_state){.scale = args->loss_scale == CLF_LOSS_SCALE_NONE ? 1 : initial};
}

bool clf_loss_scale_update(const clf_loss_scale_args *args, clf_loss_scale_state *state, bool finite) {
    if (args->loss_scale != CLF_LOSS_SCALE_DYNAMIC) return finite;
    const int64_t interval = args->interval > 0 ? args->interval : 2000;
    if (!finite) {
        state->scale = fmaxf(state->scale / 2, FLT_MIN);
        state->good_steps = 0;
    } else if (++state->good_steps >= interval) {
        if (isfinite(state->scale * 2)) state->scale *= 2;
        state->good_steps = 0;
    }
    return finite;
}
