#!/usr/bin/env python3
"""torch_attention.py --lib LIB [--part P ...] [--threads N] [--rounds N] [--device D]: clf_attention() against PyTorch's
scaled_dot_product_attention on the same memory, both in this process by turns; a figure is the median of all its calls. Prints a JSON
list of {"part", "name", "ours_s", "peer_s" (null without a peer), "gflops", "gb"}.

forward, backward: batch 1, 8 heads of 64 and 128, 512 to 4096 positions, causal and full. dtypes: forward in f16 and bf16, the peer
being our float32. decode: one query of 32 heads over 8 of 128, 4096 keys. sparse: block-sparse layouts, the peer being our dense
forward times the share of full blocks. scaling: 1024 to 16384 positions, no peer."""
import argparse
import ctypes as c
import json
import math
import statistics
import sys
import time

import torch
import torch.nn.functional as F

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.int32: 3}
P, I64 = c.c_void_p, c.c_int64


class ContextArgs(c.Structure):
    _fields_ = [("device", c.c_char_p), ("threads", c.c_int), ("memory_limit", c.c_uint64), ("log", P), ("log_user", P),
                ("log_level", c.c_int), ("cache_dir", c.c_char_p), ("error", c.c_char_p), ("error_size", c.c_size_t)]


class TensorArgs(c.Structure):
    _fields_ = [("dtype", c.c_int), ("ndim", c.c_int), ("shape", I64 * 4), ("tag", c.c_int), ("data", P)]


class AttentionArgs(c.Structure):
    _fields_ = [("query", P), ("key", P), ("value", P), ("scale", c.c_float), ("softcap", c.c_float), ("alibi_slopes", P), ("mask", P),
                ("causal", c.c_bool), ("window", I64), ("window_right", I64), ("key_lengths", P), ("query_starts", P),
                ("key_starts", P), ("block_table", P), ("layout_rows", P), ("layout_columns", P), ("layout_block", I64),
                ("dropout", c.c_float), ("dropout_seed", c.c_uint64), ("sinks", P), ("lse", P), ("out", P)]


class BackwardArgs(c.Structure):
    _fields_ = [("forward", AttentionArgs), ("d_out", P), ("d_query", P), ("d_key", P), ("d_value", P), ("d_sinks", P),
                ("d_mask", P), ("d_alibi_slopes", P)]


class Library:
    def __init__(self, path, device, threads):
        self.lib, self.context, self.keep = c.CDLL(path), P(), []
        self.lib.clf_error_message.restype = c.c_char_p
        self.lib.clf_context_device.restype = c.c_char_p
        args = ContextArgs(device=device.encode(), threads=threads)
        if self.lib.clf_context_create(c.byref(self.context), c.byref(args)):
            sys.exit(f"{device}: no such device")

    def name(self):
        return self.lib.clf_context_device(self.context).decode()

    def tensor(self, t):
        """Shares t's memory."""
        args, out = TensorArgs(dtype=DTYPES[t.dtype], ndim=t.dim(), data=t.data_ptr()), P()
        for i, n in enumerate(t.shape):
            args.shape[i] = n
        self.check(self.lib.clf_tensor_create(c.byref(out), self.context, c.byref(args)))
        self.keep.append(t)
        return out

    def check(self, status):
        if status:
            raise RuntimeError(self.lib.clf_error_message(self.context).decode())

    def forward(self, q, k, v, out, lse=None, **fields):
        args = AttentionArgs(query=self.tensor(q), key=self.tensor(k), value=self.tensor(v), out=self.tensor(out),
                             lse=self.tensor(lse) if lse is not None else None, **fields)
        return args, lambda: self.check(self.lib.clf_attention(self.context, c.byref(args)))

    def backward(self, forward, d_out, dq, dk, dv, **fields):
        args = BackwardArgs(forward=forward, d_out=self.tensor(d_out), d_query=self.tensor(dq), d_key=self.tensor(dk),
                            d_value=self.tensor(dv), **fields)
        return lambda: self.check(self.lib.clf_attention_backward(self.context, c.byref(args)))


def by_turns(runs, rounds, seconds=0.08):
    """Median seconds of each of `runs`; the threads of one have gone to sleep when the next begins."""
    times = [[] for _ in runs]
    for _ in range(rounds):
        for run, own in zip(runs, times):
            time.sleep(0.02)
            run()
            start, n = time.perf_counter(), 0
            while n < 1 or time.perf_counter() - start < seconds:
                begin = time.perf_counter()
                run()
                own.append(time.perf_counter() - begin)
                n += 1
    return [statistics.median(t) for t in times]


def shapes(longest):
    return [(d, n, causal) for causal in (True, False) for d in (64, 128) for n in (512, 1024, 2048, 4096) if n <= longest]


def text(d, n, causal):
    return f"{'causal' if causal else 'full'} 8 heads of {d}, {n}"


def pairs(n, causal):
    return n * (n + 1) / 2 if causal else n * n


def close(a, b, most):
    error = ((a.float() - b.float()).norm() / b.float().norm()).item()
    if not error < most:
        sys.exit(f"results differ by {error:g}")


def forward(lib, rounds):
    for d, n, causal in shapes(4096):
        q, k, v = (torch.randn(1, 8, n, d) for _ in range(3))
        out, lse = torch.empty_like(q), torch.empty(1, 8, n)
        _, ours = lib.forward(q, k, v, out, lse, causal=causal)
        peer = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        ours()
        close(out, peer(), 1e-5)
        a, b = by_turns([ours, peer], rounds)
        yield text(d, n, causal), a, b, 4 * 8 * d * pairs(n, causal), 0


def backward(lib, rounds):
    for d, n, causal in shapes(2048):
        q, k, v = (torch.randn(1, 8, n, d).requires_grad_() for _ in range(3))
        out, lse, d_out = torch.empty(1, 8, n, d), torch.empty(1, 8, n), torch.randn(1, 8, n, d)
        args, run = lib.forward(q.detach(), k.detach(), v.detach(), out, lse, causal=causal)
        run()
        gradients = [torch.empty(1, 8, n, d) for _ in range(3)]
        ours = lib.backward(args, d_out, *gradients)
        with torch.enable_grad():
            result = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        peer = lambda: torch.autograd.grad(result, (q, k, v), d_out, retain_graph=True)
        ours()
        for a, b in zip(gradients, peer()):
            close(a, b, 1e-5)
        a, b = by_turns([ours, peer], rounds)
        yield text(d, n, causal), a, b, 10 * 8 * d * pairs(n, causal), 0


def dtypes(lib, rounds):
    for d, n, causal in shapes(4096):
        q, k, v = (torch.randn(1, 8, n, d) for _ in range(3))
        runs = [lib.forward(*(x.to(t) for x in (q, k, v)), torch.empty_like(q).to(t), causal=causal)[1]
                for t in (torch.float32, torch.float16, torch.bfloat16)]
        f32, f16, bf16 = by_turns(runs, rounds)
        for name, seconds in (("f16", f16), ("bf16", bf16)):
            yield f"{name} {text(d, n, causal)}", seconds, f32, 4 * 8 * d * pairs(n, causal), 0


def decode(lib, rounds):
    n, d = 4096, 128
    for t, name in ((torch.float32, "f32"), (torch.float16, "f16"), (torch.bfloat16, "bf16")):
        q, k, v = torch.randn(1, 32, 1, d), torch.randn(1, 8, n, d).to(t), torch.randn(1, 8, n, d).to(t)
        out = torch.empty_like(q)
        _, ours = lib.forward(q, k, v, out)
        typed = q.to(t)
        peer = lambda: F.scaled_dot_product_attention(typed, k, v, enable_gqa=True)
        ours()
        close(out, peer(), 1e-5 if t == torch.float32 else 2e-2)
        a, b = by_turns([ours, peer], rounds)
        yield f"{name} 32 heads over 8 of {d}, {n} keys", a, b, 4 * 32 * d * n, (k.nbytes + v.nbytes) * 1e-9


def sparse(lib, rounds):
    """Random layouts; each row of blocks keeps the same number of blocks."""
    d, n = 64, 4096
    q, k, v = (torch.randn(1, 8, n, d) for _ in range(3))
    out = torch.empty_like(q)
    _, dense = lib.forward(q, k, v, out)
    generator = torch.Generator().manual_seed(1)
    for block in (16, 32, 64, 128):
        for empty in (0.5, 0.75, 0.9):
            blocks = n // block
            kept = max(1, round(blocks * (1 - empty)))
            columns = torch.cat([torch.randperm(blocks, generator=generator)[:kept].sort().values for _ in range(blocks)])
            rows = torch.arange(blocks + 1) * kept
            args = {"layout_rows": lib.tensor(rows.int()), "layout_columns": lib.tensor(columns.int()), "layout_block": block}
            _, ours = lib.forward(q, k, v, out, **args)
            a, b = by_turns([ours, dense], rounds)
            yield f"blocks of {block}, {empty:.0%} empty", a, b * kept / blocks, 4 * 8 * d * n * n * kept / blocks, 0


def scaling(lib, rounds):
    d = 64
    for causal in (True, False):
        for n in (1024, 2048, 4096, 8192, 16384):
            q, k, v = (torch.randn(1, 8, n, d) for _ in range(3))
            _, ours = lib.forward(q, k, v, torch.empty_like(q), causal=causal)
            (a,) = by_turns([ours], rounds)
            yield text(d, n, causal), a, None, 4 * 8 * d * pairs(n, causal), 0


PARTS = {f.__name__: f for f in (forward, backward, dtypes, decode, sparse, scaling)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", required=True)
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    lib = Library(args.lib, args.device, args.threads)
    results = []
    for part in args.part:
        for name, ours, peer, flops, gb in PARTS[part](lib, args.rounds):
            results.append({"part": part, "name": name, "ours_s": ours, "peer_s": peer, "gflops": flops / ours * 1e-9, "gb": gb})
            print(f"{part:9s} {name:36s} {ours * 1e3:9.3f} ms {flops / ours * 1e-9:7.1f} GFLOP/s {gb / ours:6.1f} GB/s"
                  f"{f' {peer / ours:6.2f}' if peer else ''}", file=sys.stderr, flush=True)
    print(json.dumps({"device": lib.name(), "results": results}))


if __name__ == "__main__":
    main()
