"""PyTorch's attention on the GPU, forward, backward and decode: the figures that clformer's are compared with.
usage: gpu_peers.py OUT.json"""
import json
import statistics
import sys

import torch
import torch.nn.functional as F

SHAPES = [  # batch, heads, kv_heads, queries, keys, head_dim, causal
    (1, 32, 4, 512, 512, 64, True),
    (1, 32, 4, 1, 2048, 64, False),
    (1, 32, 8, 1, 8192, 128, False),
    (1, 8, 8, 2048, 2048, 128, True),
    (4, 16, 16, 4096, 4096, 128, True),
    (1, 16, 16, 16384, 16384, 128, True),
]


def milliseconds(run, repeats=30):
    for _ in range(5):
        run()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def measure(shape, dtype):
    batch, heads, kv_heads, n_q, n_k, dim, causal = shape
    q = torch.randn(batch, heads, n_q, dim, device="cuda", dtype=dtype, requires_grad=n_q > 1)
    k, v = (torch.randn(batch, kv_heads, n_k, dim, device="cuda", dtype=dtype, requires_grad=n_q > 1) for _ in range(2))

    def forward():
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=heads != kv_heads)

    flops = 4 * batch * heads * n_q * n_k * dim / (2 if causal else 1)
    row = {"shape": shape, "dtype": str(dtype), "forward_ms": milliseconds(forward)}
    row["forward_tflops"] = flops / row["forward_ms"] / 1e9
    if n_q > 1:
        out = forward()
        grad = torch.randn_like(out)
        row["backward_ms"] = milliseconds(lambda: torch.autograd.grad(out, (q, k, v), grad, retain_graph=True))
        row["backward_tflops"] = 2.5 * flops / row["backward_ms"] / 1e9
    print(row, flush=True)
    return row


rows = [measure(shape, dtype) for shape in SHAPES for dtype in (torch.float16, torch.bfloat16)]
with open(sys.argv[1], "w") as file:
    json.dump({"torch": torch.__version__, "device": torch.cuda.get_device_name(), "attention": rows}, file, indent=1)
