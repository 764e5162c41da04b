#!/usr/bin/env python3
"""compare.py: clformer against llama.cpp and PyTorch, run by compare.sh in the peers' environment. Both sides take turns, one process
each; a figure is the median of the rounds, a ratio above 1 means that clformer is faster (or smaller)."""
import argparse
import json
import math
import os
import platform
import statistics
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
TERNARY = ("TQ1_0", "TQ2_0")
MODEL_BARS = {"F16": (1.0, 1.0), "Q8_0": (1.05, 1.6), "Q4_0": (1.3, 2.0), "Q4_K_M": (1.45, 2.0), "TQ2_0": (1.6, 2.0),
              "TQ1_0": (2.2, 3.5)}  # decode, prefill of 256
BARS = {"context": 1.1, "first token": 1.0, "cross_entropy": 1.1}


def run(command, **env):
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout


def ours(args, *flags):
    path = os.path.join(args.models, "clformer.json")
    run([args.bench, "--threads", str(args.threads), "--json", path, *flags])
    with open(path) as f:
        return json.load(f)


def llama(args, *flags):
    return json.loads(run([sys.executable, f"{HERE}/peers/llamacpp.py", "bench", "--threads", str(args.threads), *flags]))


def make_models(args, kinds):
    path = lambda kind: os.path.join(args.models, f"random-{kind}.gguf")
    for kind in [k for k in kinds if k in TERNARY]:  # random values of their own: others don't fit
        if not os.path.exists(path(kind)):
            print("making", path(kind), file=sys.stderr)
            run([sys.executable, f"{HERE}/random_gguf.py", path(kind) + ".part", "--type", kind.lower()])
            os.rename(path(kind) + ".part", path(kind))
    kinds = [k for k in kinds if k not in TERNARY]
    base = path("F16")
    if not kinds:
        return path
    if not os.path.exists(base):
        print("making", base, file=sys.stderr)
        run([sys.executable, f"{HERE}/random_gguf.py", base + ".part"])
        os.rename(base + ".part", base)
    for kind in kinds:
        if not os.path.exists(path(kind)):
            print("making", path(kind), file=sys.stderr)
            run([sys.executable, f"{HERE}/peers/llamacpp.py", "quantize", base, path(kind) + ".part", kind])
            os.rename(path(kind) + ".part", path(kind))
    return path


class Results:
    def __init__(self):
        self.rows = {}

    def add(self, name, unit, smaller_is_better, our_value, peer_value, bar=None, note=""):
        row = self.rows.setdefault(name, {"name": name, "unit": unit, "smaller_is_better": smaller_is_better, "bar": bar,
                                          "note": note, "ours": [], "peer": []})
        row["ours"].append(our_value)
        row["peer"].append(peer_value)

    def finish(self):
        for row in self.rows.values():
            a, b = statistics.median(row["ours"]), statistics.median(row["peer"])
            row["ours_median"], row["peer_median"] = a, b
            row["ratio"] = (b / a if row["smaller_is_better"] else a / b) if a and b else 0
        return list(self.rows.values())

    def show(self):
        print(f"{'':42s} {'clformer':>10s} {'peer':>10s}  {'':10s} {'ratio':>6s}")
        for row in self.finish():
            bar = "" if row["bar"] is None else f"  bar {row['bar']:.2f}{'' if row['ratio'] >= row['bar'] else ': MISSED'}"
            print(f"{row['name']:42s} {row['ours_median']:10.3f} {row['peer_median']:10.3f}  {row['unit']:10s} "
                  f"{row['ratio']:6.2f}{bar}{'  ' + row['note'] if row['note'] else ''}")


def compare_models(args, path, results):
    for _ in range(args.rounds):
        for kind in args.types:
            flags = ["--prefill", "256", "--decode", "32"]
            a = ours(args, "--model", path(kind), "--no-roofs", *flags)["model"]
            b = llama(args, path(kind), *flags)
            decode, prefill = MODEL_BARS.get(kind, (1.0, None))
            results.add(f"decode {kind}", "tokens/s", False, a["decode_tokens_per_s"], b["decode_tokens_per_s"], decode)
            results.add(f"prefill 256 {kind}", "tokens/s", False, a["prefill_tokens_per_s"], b["prefill_tokens_per_s"], prefill)
            results.add(f"first token {kind}", "s", True, a["first_token_s"], b["first_token_s"], BARS["first token"])
            results.add(f"private memory {kind}", "MB", True, a["private_bytes"] * 1e-6, b["private_bytes"] * 1e-6,
                        note="with 289 positions of KV cache")


def compare_context(args, path, results):
    """Decoding after 2048 tokens, against the better of llama.cpp's flash-attention settings."""
    flags = ["--prefill", "0", "--context", "2048", "--decode", "24"]
    for kind in args.context_types:
        mine, theirs = [], {0: [], 1: []}
        for _ in range(args.rounds):
            a = ours(args, "--model", path(kind), "--no-roofs", *flags)["model"]
            mine.append(a)
            for flash in theirs:
                theirs[flash].append(llama(args, path(kind), *flags, "--flash", str(flash))["decode_tokens_per_s"])
        best = max(theirs, key=lambda flash: statistics.median(theirs[flash]))
        for a, b in zip(mine, theirs[best]):
            results.add(f"decode after 2048 {kind}", "tokens/s", False, a["decode_tokens_per_s"], b, BARS["context"],
                        f"flash attention {'on' if best else 'off'}")
        own = [(a["private_bytes"] - a["kv_bytes"]) * 1e-6 for a in mine]
        print(f"private memory beyond the KV cache at 2048, {kind}: {statistics.median(own):.1f} MB (bar 96)")


def compare_ops(args, results):
    kept = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "10000000000"}
    path = os.path.join(args.models, "clformer.json")
    shares = {}
    for _ in range(args.rounds):
        mine = ours(args, "--op", "rms_norm", "--op", "rope", "--op", "glu", "--dtype", "f32")
        command = [sys.executable, f"{HERE}/peers/torch_ops.py", path, "--threads", str(args.threads)]
        for outputs, env in (("fresh", {}), ("reused", kept)):
            theirs = {(r["op"], r["variant"]): r["median_s"] for r in json.loads(run(command, **env))}
            for r in mine["ops"]:
                name = f"{r['op']} {r['text'].removeprefix('bench: ')}"
                shares.setdefault(name, []).append(r["of_roof"])
                results.add(f"{name}, {outputs}", "ms", True, r["median_s"] * 1e3, theirs[r["op"], r["variant"]] * 1e3)
    for name, values in shares.items():
        share = statistics.median(values)
        print(f"{name:60s} {share:5.0%} of read+write bandwidth{'' if share >= 0.8 else ': MISSED (bar 80 %)'}")


def compare_training(args, results):
    """A LoRA step of a llama of 168 M weights, 512 tokens, beside PEFT; memory is the processes' peaks."""
    model = os.path.join(args.models, "llama-168m")
    peer = [sys.executable, f"{HERE}/peers/peft_step.py", model, "--threads", str(args.threads)]
    if not os.path.exists(os.path.join(model, "model.safetensors")):
        run([*peer, "--make"])
    plain = []
    for _ in range(args.rounds):
        for name, ours_flags, peer_flags, bars in (("LoRA step", [], [], (1.35, 1 / 0.45)),
                                                   ("LoRA step, checkpointing", ["--checkpointing", "1"], ["--checkpointing"], (1.25, 1 / 0.3)),
                                                   ("QLoRA step, NF4", ["--quantize", "nf4"], None, (0.9, 1 / 0.2))):
            a = ours(args, "--train", model, "--no-roofs", "--seconds", "6", *ours_flags)["train"]
            b = plain[-1] if peer_flags is None else json.loads(run([*peer, *peer_flags]))
            if name == "LoRA step":
                plain.append(b)
            results.add(name, "tokens/s", False, a["tokens_per_s"], b["tokens_per_s"], bars[0], "" if peer_flags is not None else "beside PEFT in f32")
            results.add(f"{name}: peak", "MB", True, a["peak_bytes"] * 1e-6, b["peak_bytes"] * 1e-6, bars[1])
            print(f"{name}: plan {a['plan_bytes'] / a['pool_bytes'] - 1:+.1%} of the pool's peak")


def geometric(values):
    return statistics.geometric_mean(values) if values else float("nan")


def compare_attention(args, results):
    """Attention against PyTorch's scaled_dot_product_attention, in one process by turns (peers/torch_attention.py), with the shares of
    the machine's roofs, measured just before."""
    path = os.path.join(args.models, "clformer.json")
    run([args.bench, "--threads", str(args.threads), "--roofs", "--json", path])
    with open(path) as f:
        roofs = json.load(f)["roofs"]
    lib = os.path.join(os.path.dirname(args.bench), "..", "lib", "libclformer.so")
    command = [sys.executable, f"{HERE}/peers/torch_attention.py", "--lib", lib, "--threads", str(args.threads), "--rounds", str(args.rounds)]
    rows = [r for part in args.attention for r in json.loads(run([*command, "--part", part]))["results"]]
    bars = {"forward causal": (1.5, 1.15), "forward full": (1.12, 0.98), "backward causal": (1.7, 1.3), "backward full": (1.15, None)}
    least = {"decode f32": 3.0, "sparse": 1 / 1.15, **{kind: bar for kind, (_, bar) in bars.items()}}
    ratios, growth = {}, {}
    for r in rows:
        kind = f"{r['part']} {r['name'].split()[0]}"
        name, ms = f"{r['part']} {r['name']}", r["ours_s"] * 1e3
        rate, gbps = r["gflops"] / roofs["fma"], r["gb"] / r["ours_s"] / roofs["read"]
        note = f"{gbps:.0%} of read bandwidth" if r["gb"] else f"{rate:.0%} of multiply-add"
        if r["peer_s"] is None:
            print(f"{name:46s} {ms:10.3f} ms   {note}")
            growth.setdefault(kind, []).append((int(r["name"].split()[-1]), r["ours_s"]))
            continue
        ratios.setdefault(kind, []).append(r["peer_s"] / r["ours_s"])
        results.add(name, "ms", True, ms, r["peer_s"] * 1e3, least.get(kind, least.get(r["part"])), note)
    for kind, (mean, _) in bars.items():
        if kind in ratios:
            got = geometric(ratios[kind])
            print(f"{kind}: geometric mean {got:.2f}{'' if got >= mean else f': MISSED (bar {mean})'}")
    for kind, points in growth.items():
        (n, first), (m, last) = points[0], points[-1]
        print(f"{kind}: time grows as seq^{math.log(last / first) / math.log(m / n):.2f} from {n} to {m}")


def compare_cross_entropy(args, results):
    """A language model's head, its loss and gradients, against PyTorch's linear and cross_entropy (peers/torch_cross_entropy.py)."""
    lib = os.path.join(os.path.dirname(args.bench), "..", "lib", "libclformer.so")
    command = [sys.executable, f"{HERE}/peers/torch_cross_entropy.py", "--lib", lib, "--threads", str(args.threads), "--rounds", str(args.rounds)]
    for r in json.loads(run(command)):
        results.add(f"cross-entropy {r['name']}", "ms", True, r["ours_s"] * 1e3, r["peer_s"] * 1e3, BARS["cross_entropy"],
                    f"{r['gflops']:.0f} GFLOP/s, {r['extra']:.1%} of the logits")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--models", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--types", nargs="+", default=["F16", "Q8_0", "Q4_0", "Q4_K_M"])
    parser.add_argument("--context-types", nargs="+", default=["F16", "Q8_0"])
    parser.add_argument("--only", nargs="+", choices=["models", "context", "ops", "attention", "cross_entropy", "training"],
                        default=["models", "context", "ops", "attention", "cross_entropy", "training"])
    parser.add_argument("--attention", nargs="+", default=["forward", "backward", "dtypes", "decode", "sparse", "scaling"],
                        help="parts of the comparison of attention")
    parser.add_argument("--json")
    args = parser.parse_args()
    os.makedirs(args.models, exist_ok=True)
    results = Results()
    kinds = (args.types if "models" in args.only else []) + (args.context_types if "context" in args.only else [])
    path = make_models(args, kinds) if kinds else None
    if "models" in args.only:
        compare_models(args, path, results)
    if "context" in args.only:
        compare_context(args, path, results)
    if "ops" in args.only:
        compare_ops(args, results)
    if "attention" in args.only:
        compare_attention(args, results)
    if "cross_entropy" in args.only:
        compare_cross_entropy(args, results)
    if "training" in args.only:
        compare_training(args, results)
    results.show()
    if args.json:
        from importlib.metadata import version
        peers = {name: version(name) for name in ("llama-cpp-python", "torch")}
        with open(args.json, "w") as f:
            json.dump({"machine": platform.processor() or platform.machine(), "threads": args.threads, "rounds": args.rounds,
                       "peers": peers, "comparisons": results.finish()}, f, indent=1)


if __name__ == "__main__":
    main()
