/* schedule.c: the learning rate's way through a training. */
#include <math.h>

#include <clformer/train.h>

double clf_schedule_multiplier(const clf_schedule_args *args, int64_t step) {
    static const double pi = 3.14159265358979323846;
    const double t = step > 1 ? (double)step : 1, w = args->warmup_steps > 1 ? (double)args->warmup_steps : 1;
    if (t < w) return t / w;
    const double p = fmin(1, (t - w) / fmax(1, (double)args->steps + 1 - w));
    double f = 1;
    if (args->schedule == CLF_SCHEDULE_LINEAR) f = 1 - p;
    if (args->schedule == CLF_SCHEDULE_COSINE) f = 0.5 * (1 + cos(pi * p));
    return f + (1 - f) * args->minimum;
}
