/* placement.c: which CPU each thread of a context runs on.
 *
 * Allowed CPUs = hwloc's allowed set ∩ the caller's affinity mask; threads are capped by the cgroup's quota. One thread
 * a physical core: performance cores first, nodes in turn; more threads than that, if asked for, take the other cores,
 * then second hardware threads. If the user set OMP_PROC_BIND or OMP_PLACES, OpenMP places the threads and nothing is
 * bound here. Each worker binds itself inside a parallel region, which holds in every OpenMP runtime. The caller's
 * thread, which is thread 0 of every team, isn't ours to bind: threads that the runtime starts later would inherit its
 * one CPU. A topology that isn't this machine's (HWLOC_SYNTHETIC, HWLOC_XMLFILE) is planned for with neither mask nor
 * quota, and nothing is bound. */
#define _GNU_SOURCE
#include "placement.h"

#include <hwloc.h>
#include <omp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* CPUs' worth of time that the cgroups allow; 0: no limit. Version 2 has cpu.max ("quota period") on the way to the
 * root, version 1 two files. */
static double cgroup_quota(void) {
    char line[512], file[640], path[512] = "";
    double best = 0, quota, period;
    FILE *f = fopen("/proc/self/cgroup", "r");
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "0::", 3)) snprintf(path, sizeof path, "%.*s", (int)strcspn(line + 3, "\n"), line + 3);
    if (f) fclose(f);
    for (;;) {
        snprintf(file, sizeof file, "/sys/fs/cgroup%s/cpu.max", path);
        if ((f = fopen(file, "r"))) {
            if (fscanf(f, "%lf %lf", &quota, &period) == 2 && period > 0 && (!best || quota / period < best))
                best = quota / period;
            fclose(f);
        }
        char *slash = strrchr(path, '/');
        if (!slash) break;
        *slash = 0;
    }
    quota = period = 0;
    if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "r"))) {
        if (fscanf(f, "%lf", &quota) != 1) quota = 0;
        fclose(f);
    }
    if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "r"))) {
        if (fscanf(f, "%lf", &period) != 1) period = 0;
        fclose(f);
    }
    if (quota > 0 && period > 0 && (!best || quota / period < best)) best = quota / period;
    return best;
}

static bool is_set(const char *name) {
    const char *value = getenv(name);
    return value && *value;
}

/* A core's rank: kind (performance first), then how many of its node came before it, then the node: nodes take turns.
 */
typedef struct core_place {
    int kind, turn, node, core, n_cpus;
    int cpus[8]; /* hardware threads allowed, at most this many */
} core_place;

static int by_rank(const void *a, const void *b) {
    const core_place *x = a, *y = b;
    if (x->kind != y->kind) return x->kind > y->kind ? -1 : 1;
    if (x->turn != y->turn) return x->turn < y->turn ? -1 : 1;
    return x->node - y->node;
}

/* Lists the cores of `topology` with a CPU in `mask`, in the order in which they are given to threads. */
static int list_cores(hwloc_topology_t topology, hwloc_const_bitmap_t mask, core_place *cores, int capacity) {
    int n = 0;
    for (hwloc_obj_t core = NULL;
         n < capacity && (core = hwloc_get_next_obj_by_type(topology, HWLOC_OBJ_CORE, core));) {
        core_place *c = &cores[n];
        *c = (core_place){.core = (int)core->logical_index, .node = -1};
        unsigned cpu;
        hwloc_bitmap_foreach_begin(cpu, core->cpuset) if (hwloc_bitmap_isset(mask, cpu) && c->n_cpus < 8)
            c->cpus[c->n_cpus++] = (int)cpu;
        hwloc_bitmap_foreach_end();
        if (!c->n_cpus) continue;
        c->kind = hwloc_cpukinds_get_by_cpuset(topology, core->cpuset, 0);
        if (core->nodeset && hwloc_bitmap_first(core->nodeset) >= 0) {
            hwloc_obj_t node =
                hwloc_get_numanode_obj_by_os_index(topology, (unsigned)hwloc_bitmap_first(core->nodeset));
            c->node = node ? (int)node->logical_index : -1;
        }
        for (int i = 0; i < n; i++) c->turn += cores[i].node == c->node && cores[i].kind == c->kind;
        n++;
    }
    qsort(cores, (size_t)n, sizeof *cores, by_rank);
    return n;
}

/* Fills places round after round: first hardware threads of all cores, then second ones; beyond the CPUs there are,
 * from the start. */
static void assign(struct clf_placement *p, int threads, const core_place *cores, int n_cores) {
    int t = 0, nodes[64], n_nodes = 0;
    for (int round = 0; t < threads && n_cores; round++) {
        const int before = t;
        for (int i = 0; i < n_cores && t < threads; i++)
            if (round < cores[i].n_cpus)
                p->places[t++] = (clf_thread_place){cores[i].cpus[round], cores[i].core, cores[i].node, false};
        if (t == before) round = -1;
    }
    for (int i = 0; i < t; i++) {
        int k = 0;
        while (k < n_nodes && nodes[k] != p->places[i].node) k++;
        if (k == n_nodes && n_nodes < 64) nodes[n_nodes++] = p->places[i].node;
    }
    p->n_nodes = n_nodes > 1 ? n_nodes : 1;
}

/* The worker's part of binding. */
static bool bind_here(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0;
}

/* Threads asked for by argument or environment; 0: nobody said. */
static clf_status asked_threads(clf_context *ctx, int threads, int *out) {
    const char *text = getenv("CLFORMER_NUM_THREADS");
    *out = threads;
    if (!threads && text && *text) {
        char *end;
        const long value = strtol(text, &end, 10);
        CLF_CHECK(&ctx->error, !*end && value > 0 && value <= 4096, CLF_INVALID_ARGUMENT,
                  "CLFORMER_NUM_THREADS: expected 1 to 4096, got '%s'", text);
        *out = (int)value;
    } else if (!threads && is_set("OMP_NUM_THREADS")) {
        *out = omp_get_max_threads();
    }
    return CLF_OK;
}

/* Places for `n_cores` cores known; allocates the plan. */
static clf_status make_plan(clf_context *ctx, int asked, const core_place *cores, int n_cores, bool here) {
    int best = 0; /* cores of the fastest kind */
    for (int i = 0; i < n_cores; i++) best += cores[i].kind == cores[0].kind;
    const double quota = here ? cgroup_quota() : 0;
    int threads = asked ? asked : best ? best : 1;
    const bool capped = !asked && quota > 0 && threads > quota;
    if (capped) threads = quota >= 1 ? (int)quota : 1;
    struct clf_placement *p = calloc(1, sizeof *p + (size_t)threads * sizeof *p->places);
    CLF_CHECK(&ctx->error, p, CLF_OUT_OF_MEMORY, "out of host memory");
    ctx->placement = p;
    ctx->threads = threads;
    for (int i = 0; i < threads; i++) p->places[i] = (clf_thread_place){-1, -1, -1, false};
    assign(p, threads, cores, n_cores);
    snprintf(p->reason, sizeof p->reason, "%d core%s of %d node%s%s%s%s", n_cores, n_cores == 1 ? "" : "s", p->n_nodes,
             p->n_nodes == 1 ? "" : "s", asked ? ", threads as asked for" : ", one thread a core",
             capped ? ", capped by the cgroup's quota" : "", here ? "" : "; not this machine, nothing is bound");
    return CLF_OK;
}

static void bind_workers(clf_context *ctx) {
    clf_thread_place *places = ctx->placement->places;
#pragma omp parallel num_threads(ctx->threads)
    {
        const int t = omp_get_thread_num();
        if (t > 0 && places[t].cpu >= 0) places[t].bound = bind_here(places[t].cpu);
    }
}

clf_status clf_placement_create(clf_context *ctx, int threads) {
    int asked;
    CLF_TRY(asked_threads(ctx, threads, &asked));
    const bool obey = is_set("OMP_PROC_BIND") || is_set("OMP_PLACES");
    const char *bind = getenv("CLFORMER_BIND");
    const bool off = bind && (!strcmp(bind, "0") || !strcmp(bind, "off"));
    if (obey && !asked) asked = omp_get_max_threads();

    enum { MOST_CORES = 4096 };
    core_place *cores = calloc(MOST_CORES, sizeof *cores);
    hwloc_bitmap_t mask = hwloc_bitmap_alloc();
    hwloc_topology_t topology = NULL;
    const bool loaded = cores && mask && hwloc_topology_init(&topology) == 0 && hwloc_topology_load(topology) == 0;
    const bool here = loaded && hwloc_topology_is_thissystem(topology);
    int n_cores = 0;
    if (loaded && !(obey && here)) {
        hwloc_bitmap_copy(mask, hwloc_topology_get_allowed_cpuset(topology));
        hwloc_bitmap_t affinity = hwloc_bitmap_alloc();
        if (here && affinity && hwloc_get_cpubind(topology, affinity, HWLOC_CPUBIND_THREAD) == 0)
            hwloc_bitmap_and(mask, mask, affinity);
        hwloc_bitmap_free(affinity);
        n_cores = list_cores(topology, mask, cores, MOST_CORES);
    }
    clf_status st = cores && mask ? make_plan(ctx, asked, cores, n_cores, here)
                                  : clf_fail(&ctx->error, CLF_OUT_OF_MEMORY, "out of host memory");
    if (topology) hwloc_topology_destroy(topology);
    hwloc_bitmap_free(mask);
    free(cores);
    CLF_TRY(st);
    char *reason = ctx->placement->reason;
    const size_t size = sizeof ctx->placement->reason;
    if (obey)
        snprintf(reason, size, "OMP_PROC_BIND or OMP_PLACES is set: OpenMP places %d threads", ctx->threads);
    else if (!n_cores)
        snprintf(reason, size, "the topology is unknown: the system places the threads");
    else if (off)
        snprintf(reason, size, "CLFORMER_BIND is off: the system places the threads");
    else if (here)
        bind_workers(ctx);
    clf_log(ctx, CLF_LOG_INFO, "%d threads: %s", ctx->threads, reason);
    return CLF_OK;
}

void clf_placement_destroy(clf_context *ctx) {
    free(ctx->placement);
    ctx->placement = NULL;
}

clf_status clf_context_placement(const clf_context *ctx, clf_thread_place *places, int capacity, int *count) {
    if (!ctx || ctx->magic != CLF_CONTEXT_MAGIC || !count || capacity < 0 || (capacity && !places))
        return CLF_INVALID_ARGUMENT;
    *count = ctx->placement ? ctx->threads : 0;
    for (int i = 0; i < *count && i < capacity; i++) places[i] = ctx->placement->places[i];
    return CLF_OK;
}

const char *clf_context_placement_reason(const clf_context *ctx) {
    return ctx->placement ? ctx->placement->reason : "not a CPU context";
}
