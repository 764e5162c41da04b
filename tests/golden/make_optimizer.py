#!/usr/bin/env python3
"""make_optimizer.py OUT.safetensors: what PyTorch (2.x) makes of ten steps of AdamW and of SGD with momentum, what the paper's formula
makes of ten of Lion, all in float64 from float32 numbers. tests/optimizer_golden.c reads it."""
import sys

import numpy as np
import torch
from safetensors.numpy import save_file

WEIGHTS, STEPS = 90, 10
f32 = lambda v: float(np.float32(v))  # hyperparameters as the library gets them


def lion(weight, gradients, lr, beta1, beta2, decay):
    """arXiv:2302.06675, algorithm 2."""
    w, m = weight.clone(), torch.zeros_like(weight)
    for g in gradients:
        w = w - lr * ((beta1 * m + (1 - beta1) * g).sign() + decay * w)
        m = beta2 * m + (1 - beta2) * g
    return w, m


def run(optimizer, parameter, gradients):
    for g in gradients:
        parameter.grad = g.clone()
        optimizer.step()
    return parameter.detach(), optimizer.state[parameter]


def main():
    generator = torch.Generator().manual_seed(5)
    normal = lambda *shape: torch.randn(*shape, generator=generator).double()
    start, gradients = normal(WEIGHTS), normal(STEPS, WEIGHTS) * 10.0 ** (torch.arange(WEIGHTS).double() % 9 - 6)
    gradients = gradients.float().double()
    parameter = lambda: torch.nn.Parameter(start.clone())
    out = {"start": start, "gradients": gradients}

    p = parameter()
    adamw = torch.optim.AdamW([p], lr=f32(3e-3), betas=(f32(0.9), f32(0.999)), eps=f32(1e-8), weight_decay=f32(0.1))
    out["adamw.weight"], state = run(adamw, p, gradients)
    out["adamw.momentum"], out["adamw.variance"] = state["exp_avg"], state["exp_avg_sq"]
    p = parameter()
    sgd = torch.optim.SGD([p], lr=f32(1e-2), momentum=f32(0.9))
    out["sgd.weight"], state = run(sgd, p, gradients)
    out["sgd.momentum"] = state["momentum_buffer"]
    p = parameter()
    out["sgd_plain.weight"], _ = run(torch.optim.SGD([p], lr=f32(1e-2)), p, gradients)
    out["lion.weight"], out["lion.momentum"] = lion(start, gradients, f32(1e-4), f32(0.9), f32(0.99), f32(0.1))
    save_file({name: np.ascontiguousarray(t.numpy()) for name, t in out.items()}, sys.argv[1])


if __name__ == "__main__":
    main()
