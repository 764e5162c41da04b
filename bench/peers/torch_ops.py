#!/usr/bin/env python3
"""torch_ops.py BENCH.json [--threads N] [--seconds S]: PyTorch eager on the shapes of clformer-bench's results for rms_norm, rope and
glu. Prints a JSON list of {"op", "variant", "median_s"}.

Eager ops make their outputs anew. Whether that costs page faults is the allocator's doing: run it as it is for fresh outputs, and with
MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=10000000000 for outputs that reuse freed memory."""
import argparse
import json
import statistics
import time

import torch
import torch.nn.functional as F


def rms_norm(shapes, text):
    x, weight = torch.randn(shapes["x"]), torch.randn(shapes["x"][-1])
    if "residual" in shapes:
        residual = torch.randn(shapes["residual"])

        def run():
            s = x + residual
            return s, F.rms_norm(s, (s.shape[-1],), weight, 1e-5)

        return run
    return lambda: F.rms_norm(x, (x.shape[-1],), weight, 1e-5)


def rope(shapes, text):
    x = torch.randn(shapes["x"])
    seq, dim = x.shape[-2:]
    angles = torch.arange(seq)[:, None] * 10000.0 ** (-torch.arange(0, dim, 2) / dim)
    cos, sin = torch.cat([angles.cos()] * 2, -1), torch.cat([angles.sin()] * 2, -1)

    def run():
        half = dim // 2
        return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin

    return run


def glu(shapes, text):
    gate, up = torch.randn(shapes["gate"]), torch.randn(shapes["up"])
    if "gelu_tanh" in text:
        return lambda: F.gelu(gate, approximate="tanh") * up
    if "gelu" in text:
        return lambda: F.gelu(gate) * up
    return lambda: F.silu(gate) * up


OPS = {"rms_norm": rms_norm, "rope": rope, "glu": glu}


def median(run, seconds):
    run()
    run()
    times, start = [], time.perf_counter()
    while len(times) < 5 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bench")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=0.5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    results = []
    with torch.no_grad():
        for r in json.load(open(args.bench))["ops"]:
            if r["op"] in OPS and r["dtype"] == "f32":
                shapes = {t["name"]: t["shape"] for t in r["tensors"]}
                seconds = median(OPS[r["op"]](shapes, r["text"]), args.seconds)
                results.append({"op": r["op"], "variant": r["variant"], "median_s": seconds})
    print(json.dumps(results))


if __name__ == "__main__":
    main()
