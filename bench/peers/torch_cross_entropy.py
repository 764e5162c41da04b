#!/usr/bin/env python3
"""torch_cross_entropy.py --lib LIB [--threads N] [--rounds N]: clf_linear_cross_entropy() against PyTorch's linear and cross_entropy,
forward and backward, on the same memory, both in this process by turns. Prints a JSON list of {"name", "ours_s", "peer_s", "gflops",
"extra"}: the last is our largest memory beside the tensors, as a share of the logits.

full: gradients by x and by the weights, from zeros, which is in the time as PyTorch's allocating is; frozen: by x alone."""
import argparse
import ctypes as c
import json

import torch
import torch.nn.functional as F

from torch_attention import P, Library, by_turns, close


class CrossEntropyArgs(c.Structure):
    _fields_ = [("x", P), ("weight", P), ("labels", P), ("row_weights", P), ("softcap", c.c_float), ("label_smoothing", c.c_float),
                ("z_loss", c.c_float), ("d_loss", c.c_float), ("loss", P), ("lse", P), ("d_x", P), ("d_weight", P)]



class MemoryStats(c.Structure):  # its head; the rest is room for what follows
    _fields_ = [("limit", c.c_uint64), ("held", c.c_uint64), ("in_use", c.c_uint64), ("asked", c.c_uint64), ("peak_held", c.c_uint64),
                ("peak_asked", c.c_uint64), ("rest", c.c_uint64 * 256)]


def peak(lib):
    stats = MemoryStats()
    lib.check(lib.lib.clf_memory_get_stats(lib.context, c.byref(stats)))
    return stats.peak_held


def compare(lib, rows, k, vocab, frozen, rounds):
    x = torch.randn(rows, k, requires_grad=True)
    w = (torch.randn(vocab, k) * 0.02).requires_grad_(not frozen)
    labels = torch.randint(0, vocab, (rows,))
    loss, d_x, d_w = torch.empty(rows), torch.empty(rows, k), torch.zeros(vocab, k)
    args = CrossEntropyArgs(x=lib.tensor(x.detach()), weight=lib.tensor(w.detach()), labels=lib.tensor(labels.int()), d_loss=1 / rows,
                            loss=lib.tensor(loss), d_x=lib.tensor(d_x), d_weight=None if frozen else lib.tensor(d_w))

    def ours():
        if not frozen:
            d_w.zero_()
        lib.check(lib.lib.clf_linear_cross_entropy(lib.context, c.byref(args)))

    def peer():
        x.grad = w.grad = None
        result = F.cross_entropy(F.linear(x, w), labels)
        result.backward()
        return result

    lib.check(lib.lib.clf_memory_trim(lib.context))
    lib.check(lib.lib.clf_memory_reset_peak(lib.context))
    before = peak(lib)
    ours()
    extra = (peak(lib) - before) / (4 * rows * vocab)
    close(loss.mean(), peer().detach(), 1e-5)
    close(d_x, x.grad, 1e-5)
    if not frozen:
        close(d_w, w.grad, 1e-5)
    a, b = by_turns([ours, peer], rounds)
    name = f"{'frozen' if frozen else 'full'} {rows}×{k}×{vocab}"
    return {"name": name, "ours_s": a, "peer_s": b, "gflops": (4 if frozen else 6) * rows * k * vocab / a * 1e-9, "extra": extra}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    lib = Library(args.lib, "cpu", args.threads)
    print(json.dumps([compare(lib, 512, 2048, 32000, frozen, args.rounds) for frozen in (False, True)]))


if __name__ == "__main__":
    main()
