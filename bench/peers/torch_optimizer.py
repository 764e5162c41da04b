#!/usr/bin/env python3
"""torch_optimizer.py --lib LIB [--weights N] [--threads N] [--rounds N] [--device D]: clf_optimizer_step() against
torch.optim.AdamW(fused=True) on tensors of the same size, each in its own memory, both in this process by turns; a figure is the median of all its calls. Our
step clears the gradient, PyTorch's doesn't: it is timed alone and with zero_grad(set_to_none=False). The states of both are compared
after three steps. Prints a JSON list of {"name", "ours_s", "peer_s", "peer_clearing_s", "state_bytes" (a weight)}."""
import argparse
import ctypes as c
import json
import sys

import torch

from torch_attention import DTYPES, I64, P, Library, TensorArgs, by_turns, close

DTYPES[torch.uint8] = 4
ADAMW, BLOCK = 0, 256


class StepArgs(c.Structure):
    _fields_ = [("optimizer", c.c_int), ("weight", P), ("gradient", P), ("copy", P), ("momentum", P), ("variance", P),
                ("momentum_scale", P), ("variance_scale", P), ("gradient_scale", c.c_float), ("learning_rate", c.c_float),
                ("beta1", c.c_float), ("beta2", c.c_float), ("eps", c.c_float), ("weight_decay", c.c_float), ("step", I64)]


class Ours:
    """AdamW over one weight, in memory of the library's; eight: 8-bit state; copy: a bf16 copy of the weight is kept."""

    def __init__(self, lib, weight, eight=False, copy=False):
        n = weight.numel()
        blocks, dtype = (n + BLOCK - 1) // BLOCK, torch.uint8 if eight else torch.float32
        self.lib = lib
        self.weight, w = self.make(n, torch.float32)
        self.gradient, g = self.make(n, torch.float32)
        self.weight.copy_(weight)
        state, scales = [self.make(n, dtype) for _ in range(2)], [self.make(blocks, torch.float32) for _ in range(2)] if eight else []
        self.state_bytes = sum(t.nbytes for t, _ in state + scales) / n
        momentum_scale, variance_scale = [t for _, t in scales] or [None, None]
        self.args = StepArgs(optimizer=ADAMW, weight=w, gradient=g, copy=self.make(n, torch.bfloat16)[1] if copy else None,
                             momentum=state[0][1], variance=state[1][1], momentum_scale=momentum_scale,
                             variance_scale=variance_scale, learning_rate=1e-3, beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.01)

    def make(self, n, dtype):
        """A tensor of zeros, as PyTorch and as the library see it."""
        args, out = TensorArgs(dtype=DTYPES[dtype], ndim=1), P()
        args.shape[0] = n
        self.lib.check(self.lib.lib.clf_tensor_create(c.byref(out), self.lib.context, c.byref(args)))
        self.lib.check(self.lib.lib.clf_tensor_clear(out))
        bytes_ = n * torch.empty(0, dtype=dtype).element_size()
        return torch.frombuffer((c.c_char * bytes_).from_address(self.lib.lib.clf_tensor_data(out)), dtype=dtype), out

    def step(self):
        self.args.step += 1
        self.lib.check(self.lib.lib.clf_optimizer_step(self.lib.context, c.byref(self.args)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", required=True)
    parser.add_argument("--weights", type=int, default=16 << 20)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    lib = Library(args.lib, args.device, args.threads)
    lib.lib.clf_tensor_data.restype = P
    start = torch.randn(args.weights)
    theirs = torch.nn.Parameter(start.clone())
    theirs.grad = torch.zeros_like(start)
    peer = torch.optim.AdamW([theirs], lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, fused=True)
    kinds = {"f32": Ours(lib, start), "f32, bf16 copy": Ours(lib, start, copy=True), "8 bits": Ours(lib, start, eight=True)}
    for _ in range(3):
        theirs.grad.normal_()
        for ours in kinds.values():
            ours.gradient.copy_(theirs.grad)
            ours.step()
        peer.step()
    close(kinds["f32"].weight - start, theirs.detach() - start, 1e-4)
    close(kinds["8 bits"].weight - start, theirs.detach() - start, 3e-2)

    def clearing():
        peer.step()
        peer.zero_grad(set_to_none=False)

    *seconds, alone, cleared = by_turns([ours.step for ours in kinds.values()] + [peer.step, clearing], args.rounds)
    results = []
    for (name, ours), own in zip(kinds.items(), seconds):
        results.append({"name": name, "ours_s": own, "peer_s": alone, "peer_clearing_s": cleared, "state_bytes": ours.state_bytes})
        print(f"AdamW {name:16s} {own * 1e3:8.2f} ms; PyTorch's step {alone * 1e3:.2f} ms: {alone / own:.2f}, with clearing "
              f"{cleared * 1e3:.2f} ms: {cleared / own:.2f}; state {ours.state_bytes:.3f} bytes a weight", file=sys.stderr)
    print(json.dumps({"device": lib.name(), "results": results}))


if __name__ == "__main__":
    main()
