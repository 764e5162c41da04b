/* metrics.c: metrics.jsonl, the progress line, and the loss curve. */
#define _GNU_SOURCE
#include "metrics.h"

#include <clformer/clformer.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_LINES = 20 /* of progress where there is no terminal */ };

double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static char *path_in(const char *folder, const char *name) {
    char *path;
    return asprintf(&path, "%s/%s", folder, name) < 0 ? NULL : path;
}

const char *metrics_open(metrics *m, const char *folder) {
    char *path = path_in(folder, "metrics.jsonl");
    const int fd = path ? open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    const int error = errno;
    free(path);
    m->folder = folder;
    if (fd < 0) return strerror(error);
    if (!flock(fd, LOCK_EX | LOCK_NB) && (m->file = fdopen(fd, "a"))) return NULL;
    close(fd);
    return "another run is writing there";
}

void metrics_close(metrics *m) {
    if (m->file) fclose(m->file);
    m->file = NULL;
}

int64_t metrics_place(metrics *m) {
    struct stat info;
    const int fd = fileno(m->file);
    return fflush(m->file) || fsync(fd) || fstat(fd, &info) ? -1 : (int64_t)info.st_size;
}

bool metrics_return_to(metrics *m, int64_t place) {
    return metrics_place(m) >= place && !ftruncate(fileno(m->file), (off_t)place);
}

bool metrics_write(metrics *m, json_t *line) {
    const bool ok = line && !json_dumpf(line, m->file, JSON_COMPACT) && fputc('\n', m->file) != EOF && !fflush(m->file);
    json_decref(line);
    return ok;
}

void metrics_show(metrics *m, const progress *p) {
    const bool terminal = isatty(STDERR_FILENO);
    const int64_t done = p->step - m->first, interval = (m->steps + MAX_LINES - 1) / MAX_LINES;
    if (!terminal && p->step % interval && p->step != m->steps && done != 1) return;
    char memory[32];
    const double left = (seconds_now() - m->began) / (double)done * (double)(m->steps - p->step);
    const long long rest = (long long)left;
    fprintf(stderr,
            "%sstep %lld/%lld  epoch %.2f  loss %.4f  lr %.2e  norm %.3g  %.0f tokens/s  %s  ETA %lld:%02lld:%02lld%s",
            terminal ? "\r\033[K" : "", (long long)p->step, (long long)m->steps, p->epoch, p->loss, p->learning_rate,
            p->gradient_norm, p->tokens_per_second, clf_format_bytes(memory, sizeof memory, p->memory), rest / 3600,
            rest / 60 % 60, rest % 60, terminal ? "" : "\n");
    m->shown = terminal;
}

void metrics_say(metrics *m, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (m->shown) fputc('\n', stderr);
    m->shown = false;
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

/* The curve */

/* "step value" lines of the objects that have `key`. Returns how many. */
static int print_points(FILE *out, FILE *in, const char *block, const char *key) {
    char *line = NULL;
    size_t size = 0;
    int count = 0;
    rewind(in);
    fprintf(out, "$%s << EOD\n", block);
    while (getline(&line, &size, in) > 0) {
        json_t *j = json_loads(line, 0, NULL);
        const json_t *value = json_object_get(j, key);
        if (json_is_number(value)) {
            fprintf(out, "%lld %.9g\n", (long long)json_integer_value(json_object_get(j, "step")),
                    json_number_value(value));
            count++;
        }
        json_decref(j);
    }
    fprintf(out, "EOD\n");
    free(line);
    return count;
}

static void print_plot(FILE *out, FILE *in) {
    fprintf(out, "set terminal svg size 800,450 background 'white'\nset output 'loss.svg.tmp'\n"
                 "set xlabel 'step'\nset ylabel 'loss'\nset grid\n");
    const int losses = print_points(out, in, "loss", "loss"), evals = print_points(out, in, "eval", "eval_loss");
    if (losses) fprintf(out, "plot $loss using 1:2 with lines linewidth 2 title 'training'");
    if (evals)
        fprintf(out, "%s $eval using 1:2 with linespoints linewidth 2 title 'evaluation'", losses ? "," : "plot");
    fprintf(out, "\n");
}

/* gnuplot in the run's folder, its script from `fd`. Returns its exit status; 127: it isn't there. */
static int run_gnuplot(const metrics *m, int fd) {
    const pid_t child = fork();
    if (child == 0) {
        const int nowhere = open("/dev/null", O_WRONLY);
        if (dup2(fd, STDIN_FILENO) < 0 || dup2(nowhere, STDERR_FILENO) < 0 || chdir(m->folder)) _exit(1);
        execlp("gnuplot", "gnuplot", (char *)NULL);
        _exit(127);
    }
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return child > 0 && WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

void metrics_draw(metrics *m) {
    if (m->no_curve || metrics_place(m) <= 0) return;
    char *data = path_in(m->folder, "metrics.jsonl"), *begun = path_in(m->folder, "loss.svg.tmp"),
         *curve = path_in(m->folder, "loss.svg");
    FILE *in = data ? fopen(data, "r") : NULL, *script = tmpfile();
    if (in && script && begun && curve) {
        print_plot(script, in);
        rewind(script);
        const int code = run_gnuplot(m, fileno(script));
        m->no_curve = code == 127;
        if (m->no_curve) metrics_say(m, "no loss curve: gnuplot is not installed");
        if (code || rename(begun, curve)) unlink(begun);
    }
    if (in) fclose(in);
    if (script) fclose(script);
    free(data);
    free(begun);
    free(curve);
}
