#!/usr/bin/env python3
"""torch_gpu.py --lib LIB [--device opencl] [--part P ...] [--small]: clformer's ops on an OpenCL GPU beside PyTorch's on the same card
through CUDA, both in this process by turns. A figure is the median of bursts, each ended by a wait. Prints a JSON object with
"results", a list of {"part", "name", "ours_s", "peer_s", "tflops", "gb_s", "of_flops", "of_bandwidth"}, and "roofs", what PyTorch reaches in
a copy and in a product of 8192 by 8192 in bf16, which the last two are shares of; where PyTorch or CUDA is missing they and peer_s are null.

latency: an op on one element, with the wait. forward, backward: bf16 and f16, heads of 64, 128 and 256, 512 to 16384 positions, causal
and full. mask: all gradients with a bias of each head that the batch shares. decode: one query a sequence of 32 heads over 8 of 128. fused: rms_norm with the residual, rope, glu, linear with its
gated unit, against PyTorch's unfused form. quantised: linear with weights of 16 bits and of block dtypes, one row and eight (bytes of the weights
count), 2048 rows and their gradient (FLOPs count), against PyTorch's bf16 linear with the weights in bf16. ternary: the same with T2, dense and as
tiles of which 80, 90 and 95 % are empty (bytes and FLOPs of the tiles that are there). memory: peak bytes of attention, forward and backward. --small: sizes for a CPU, to try the script itself."""
import argparse
import ctypes as c
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F

from torch_attention import DTYPES, AttentionArgs, Library, TensorArgs

P, I64 = c.c_void_p, c.c_int64
CUDA = torch.cuda.is_available()
WHERE = "cuda" if CUDA else "cpu"


class RmsNormArgs(c.Structure):
    _fields_ = [("x", P), ("residual", P), ("weight", P), ("weight_offset", c.c_float), ("eps", c.c_float), ("sum", P),
                ("rstd", P), ("out", P)]


class GluArgs(c.Structure):
    _fields_ = [("gate", P), ("up", P), ("activation", c.c_int), ("out", P)]


class RopeArgs(c.Structure):
    _fields_ = [("x", P), ("positions", P), ("position", I64), ("n_dims", c.c_int), ("pairing", c.c_int), ("base", c.c_double),
                ("scaling", c.c_int), ("factor", c.c_float), ("original_context", I64), ("low_freq_factor", c.c_float),
                ("high_freq_factor", c.c_float), ("beta_fast", c.c_float), ("beta_slow", c.c_float), ("attention_factor", c.c_float),
                ("freq_factors", P), ("inverse", c.c_bool), ("out", P)]


class LinearArgs(c.Structure):
    _fields_ = [("x", P), ("weight", P * 3), ("tile_rows", P * 3), ("tile_columns", P * 3), ("row_scale", P * 3), ("bias", P * 3),
                ("residual", P), ("scale", c.c_float), ("glu", c.c_int), ("precision", c.c_int),
                ("out", P * 3)]


class LinearBackwardArgs(c.Structure):
    _fields_ = [("x", P), ("weight", P * 3), ("d_out", P * 3), ("residual", P), ("scale", c.c_float), ("d_x", P), ("d_weight", P * 3),
                ("d_bias", P * 3)]


class MemoryStats(c.Structure): # the sizes before `efficiency` are all that is read
    _fields_ = [(name, c.c_uint64) for name in ("limit", "held", "in_use", "asked", "peak_held", "peak_asked", "mapped", "allocations",
                                                "reused")] + [("rest", c.c_uint64 * 64)]


class AddArgs(c.Structure):
    _fields_ = [("a", P), ("b", P), ("out", P)]


class Device(Library):
    """Tensors are copies on the device."""

    def tensor(self, t):
        args, out = TensorArgs(dtype=DTYPES[t.dtype], ndim=t.dim()), P()
        for i, n in enumerate(t.shape):
            args.shape[i] = n
        self.check(self.lib.clf_tensor_create(c.byref(out), self.context, c.byref(args)))
        host = t.detach().cpu().contiguous()
        self.check(self.lib.clf_tensor_write(out, P(host.data_ptr()), c.c_size_t(host.nbytes)))
        self.keep.append(out)
        return out

    def bytes(self, name, shape, host):
        """A tensor of the dtype that is called `name`, of these bytes."""
        dtype = c.c_int()
        self.check(self.lib.clf_dtype_from_name(c.byref(dtype), name.encode()))
        args, out = TensorArgs(dtype=dtype.value, ndim=len(shape)), P()
        for i, n in enumerate(shape):
            args.shape[i] = n
        self.check(self.lib.clf_tensor_create(c.byref(out), self.context, c.byref(args)))
        self.check(self.lib.clf_tensor_write(out, P(host.data_ptr()), c.c_size_t(host.nbytes)))
        self.keep.append(out)
        return out

    def blocks(self, name, rows, columns):
        """A matrix of a block dtype, of any bytes that stand for no infinity, and how many they are."""
        dtype = c.c_int()
        self.check(self.lib.clf_dtype_from_name(c.byref(dtype), name.encode()))
        self.lib.clf_dtype_block_bytes.restype = c.c_size_t
        size = rows * columns // self.lib.clf_dtype_block_values(dtype) * self.lib.clf_dtype_block_bytes(dtype)
        return self.bytes(name, (rows, columns), torch.randint(0, 256, (size,), dtype=torch.uint8) & 0xbf), size

    def read(self, tensor, like):
        host = torch.empty(like.shape, dtype=like.dtype)
        self.check(self.lib.clf_tensor_read(P(tensor), P(host.data_ptr()), c.c_size_t(host.nbytes)))
        return host

    def forget(self):
        for t in self.keep:
            self.lib.clf_tensor_destroy(t)
        self.keep = []

    def sync(self):
        self.check(self.lib.clf_sync(self.context))

    def op(self, name, args):
        function = getattr(self.lib, "clf_" + name)
        return lambda: self.check(function(self.context, c.byref(args)))


def burst(run, wait, least=0.05):
    """Seconds a call, of as many calls as take `least` seconds together."""
    run(), wait()
    n = 1
    while True:
        start = time.perf_counter()
        for _ in range(n):
            run()
        wait()
        seconds = time.perf_counter() - start
        if seconds >= least or n >= 1 << 14:
            return seconds / n
        n = max(n + 1, int(n * min(8, 1.2 * least / max(seconds, 1e-9))))


def by_turns(device, ours, peer, rounds):
    wait = torch.cuda.synchronize if CUDA else lambda: None
    a, b = [], []
    for _ in range(rounds):
        a.append(burst(ours, device.sync))
        if peer:
            b.append(burst(peer, wait))
    return statistics.median(a), statistics.median(b) if b else None


def close(ours, theirs, most):
    error = ((ours.float() - theirs.float().cpu()).norm() / theirs.float().norm().cpu()).item()
    if not error < most:
        sys.exit(f"results differ by {error:g}")


def attention_shapes(small):
    lengths = (64, 128) if small else (512, 2048, 8192, 16384)
    for dtype in (torch.bfloat16, torch.float16):
        for d in (64, 128) if small else (64, 128, 256):
            for n in lengths:
                for causal in (False, True):
                    yield dtype, d, n, causal, max(1, (256 if small else 16384) // n), max(1, (64 if small else 2048) // d)


def pairs(n, causal):
    return n * (n + 1) / 2 if causal else n * n


def inputs(batch, heads, n, d, dtype):
    return [torch.randn(batch, heads, n, d, dtype=dtype, device=WHERE) for _ in range(4)]


def name_of(dtype, d, n, causal, batch, heads):
    return f"{str(dtype)[6:]} {'causal' if causal else 'full'} [{batch}, {heads}, {n}, {d}]"


def forward(device, s):
    for dtype, d, n, causal, batch, heads in attention_shapes(s.small):
        q, k, v, _ = inputs(batch, heads, n, d, dtype)
        args, run = device.forward(q, k, v, q, causal=causal)
        peer = lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        run()
        close(device.read(args.out, q), peer(), 1e-2)
        yield name_of(dtype, d, n, causal, batch, heads), *by_turns(device, run, peer, s.rounds), 4 * batch * heads * d * pairs(n, causal), 0
        device.forget()


def backward(device, s):
    for dtype, d, n, causal, batch, heads in attention_shapes(s.small):
        q, k, v, d_out = inputs(batch, heads, n, d, dtype)
        args, run = device.forward(q, k, v, q, torch.zeros(batch, heads, n), causal=causal)
        run()
        ours = device.backward(args, d_out, q, k, v)
        for x in (q, k, v):
            x.requires_grad_()
        with torch.enable_grad():
            result = F.scaled_dot_product_attention(q, k, v, is_causal=causal)
        peer = lambda: torch.autograd.grad(result, (q, k, v), d_out, retain_graph=True)
        ours()
        yield name_of(dtype, d, n, causal, batch, heads), *by_turns(device, ours, peer, s.rounds), 10 * batch * heads * d * pairs(n, causal), 0
        device.forget()


def mask(device, s):
    """All gradients with a bias for each head and pair of positions, which the batch shares, its own among them."""
    batch, heads, d = (2, 2, 64) if s.small else (8, 16, 64)
    for dtype in (torch.bfloat16, torch.float16):
        for n in (128,) if s.small else (512, 2048, 4096):
            q, k, v, d_out = inputs(batch, heads, n, d, dtype)
            bias = torch.randn(1, heads, n, n, dtype=dtype, device=WHERE)
            args, run = device.forward(q, k, v, q, torch.zeros(batch, heads, n), mask=device.tensor(bias))
            run()
            of_bias = torch.zeros(bias.shape)
            d_mask = device.tensor(of_bias)
            ours = device.backward(args, d_out, q, k, v, d_mask=d_mask)
            for x in (q, k, v, bias):
                x.requires_grad_()
            with torch.enable_grad():
                result = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
            peer = lambda: torch.autograd.grad(result, (q, k, v, bias), d_out, retain_graph=True)
            ours()
            close(device.read(d_mask.value, of_bias), peer()[3], 2e-2)
            yield f"{str(dtype)[6:]} bias of [1, {heads}, {n}, {n}], batch {batch}", *by_turns(device, ours, peer, s.rounds), 10 * batch * heads * d * n * n, 0
            device.forget()


def decode(device, s):
    d, batch = 128, 1 if s.small else 8
    for dtype in (torch.bfloat16, torch.float16):
        for n in (256,) if s.small else (4096, 16384):
            q = torch.randn(batch, 32, 1, d, dtype=dtype, device=WHERE)
            k, v = (torch.randn(batch, 8, n, d, dtype=dtype, device=WHERE) for _ in range(2))
            args, run = device.forward(q, k, v, q)
            peer = lambda: F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
            run()
            close(device.read(args.out, q), peer(), 1e-2)
            yield f"{str(dtype)[6:]} {batch} × 32 heads over 8 of {d}, {n} keys", *by_turns(device, run, peer, s.rounds), 4 * batch * 32 * d * n, k.nbytes + v.nbytes
            device.forget()


def fused(device, s):
    rows, hidden, ffn = (64, 256, 512) if s.small else (8192, 4096, 11008)
    for dtype in (torch.bfloat16, torch.float16):
        kind = str(dtype)[6:]
        x, residual = (torch.randn(rows, hidden, dtype=dtype, device=WHERE) for _ in range(2))
        weight = torch.rand(hidden, dtype=dtype, device=WHERE)
        args = RmsNormArgs(x=device.tensor(x), residual=device.tensor(residual), weight=device.tensor(weight), eps=1e-5,
                           sum=device.tensor(x), out=device.tensor(x))

        def peer():
            total = x + residual
            return total, F.rms_norm(total, (hidden,), weight, 1e-5)

        yield f"{kind} residual and rms_norm [{rows}, {hidden}]", *by_turns(device, device.op("rms_norm", args), peer, s.rounds), 0, 4 * x.nbytes
        device.forget()
        q = torch.randn(1, 32, rows // 4, 128, dtype=dtype, device=WHERE)
        args = RopeArgs(x=device.tensor(q), out=device.tensor(q))
        angle = torch.arange(rows // 4)[:, None] * 10000.0 ** (-torch.arange(64) / 64)
        cos, sin = (f(torch.cat([angle, angle], 1)).to(dtype=dtype, device=WHERE) for f in (torch.cos, torch.sin))
        peer = lambda: q * cos + torch.cat([-q[..., 64:], q[..., :64]], -1) * sin
        run = device.op("rope", args)
        run()
        close(device.read(args.out, q), peer(), 2e-2)
        yield f"{kind} rope [1, 32, {rows // 4}, 128]", *by_turns(device, run, peer, s.rounds), 0, 2 * q.nbytes
        device.forget()
        gate, up = (torch.randn(rows, ffn, dtype=dtype, device=WHERE) for _ in range(2))
        args = GluArgs(gate=device.tensor(gate), up=device.tensor(up), activation=s.silu, out=device.tensor(gate))
        yield f"{kind} silu and product [{rows}, {ffn}]", *by_turns(device, device.op("glu", args), lambda: F.silu(gate) * up, s.rounds), 0, 3 * gate.nbytes
        device.forget()
        w = [torch.randn(ffn, hidden, dtype=dtype, device=WHERE) / hidden ** 0.5 for _ in range(2)]
        args = LinearArgs(x=device.tensor(x), glu=s.silu)
        args.weight[0], args.weight[1] = (device.tensor(m) for m in w)
        args.out[0] = device.tensor(torch.zeros(rows, ffn, dtype=dtype))
        peer = lambda: F.silu(x @ w[0].T) * (x @ w[1].T)
        run = device.op("linear", args)
        run()
        close(device.read(args.out[0], gate), peer(), 2e-2)
        yield f"{kind} linear, gated [{rows}, {hidden}] to {ffn}", *by_turns(device, run, peer, s.rounds), 4 * rows * hidden * ffn, 0
        device.forget()


FORMATS = ("q8_0", "q4_0", "q4_k", "q6_k", "nf4", "tq2_0")


def quantised(device, s):
    n, k = (512, 512) if s.small else (14336, 4096)
    w = torch.randn(n, k, dtype=torch.bfloat16, device=WHERE) / k ** 0.5
    for rows in (1, 8, 64 if s.small else 2048):
        x = {dtype: torch.randn(rows, k, device=WHERE).to(dtype) for dtype in (torch.bfloat16, torch.float32)}
        peer = lambda: F.linear(x[torch.bfloat16], w)
        flops = 2 * rows * n * k if rows > 8 else 0
        for format in ("bf16",) + FORMATS:
            weight, size = (device.tensor(w), w.nbytes) if format == "bf16" else device.blocks(format, n, k)
            for dtype in x if format != "bf16" else (torch.bfloat16,):
                out = torch.zeros(rows, n, dtype=dtype)
                args = LinearArgs(x=device.tensor(x[dtype]))
                args.weight[0], args.out[0] = weight, device.tensor(out)
                run = device.op("linear", args)
                if format == "bf16":
                    run()
                    close(device.read(args.out[0], out), peer(), 1e-2)
                yield f"{format}, x {str(dtype)[6:]} [{rows}, {k}] to {n}", *by_turns(device, run, peer, s.rounds), flops, 0 if flops else size
            if flops:
                d_out = torch.randn(rows, n, device=WHERE).to(torch.bfloat16)
                args = LinearBackwardArgs(d_x=device.tensor(x[torch.bfloat16]))
                args.weight[0], args.d_out[0] = weight, device.tensor(d_out)
                peer_back = lambda: d_out @ w
                yield f"{format}, d_x of x bf16 [{rows}, {k}] to {n}", *by_turns(device, device.op("linear_backward", args), peer_back, s.rounds), flops, 0
            device.forget()


def words_of(codes):
    """Words of T2, [n / 16, k / 16, 64 bytes], of codes −1, 0 and 1, [n, k]: the value at k 4p + i is bits 2p of a row's byte i, plus 1."""
    n, k = codes.shape
    parts = (codes.to(torch.uint8) + 1).view(n // 16, 16, k // 16, 4, 4)
    rows = sum(parts[:, :, :, p] << 2 * p for p in range(4))
    return rows.permute(0, 2, 1, 3).reshape(n // 16, k // 16, 64)


def ternary(device, s):
    n, k = (512, 512) if s.small else (14336, 4096)
    scale = 2.0 ** -6
    for empty in (0, 0.8, 0.9, 0.95):
        there = torch.rand(n // 16, k // 16) >= empty
        codes = torch.randint(-1, 2, (n, k)) * there.repeat_interleave(16, 0).repeat_interleave(16, 1)
        w, words = (codes * scale).to(dtype=torch.bfloat16, device=WHERE), words_of(codes)
        args = LinearArgs()
        if empty:
            kept, columns = words[there], there.nonzero()[:, 1].to(torch.int32)
            rows_of_tiles = torch.cat([torch.zeros(1, dtype=torch.int64), there.sum(1).cumsum(0)]).to(torch.int32)
            lists = rows_of_tiles, columns, torch.full((n,), scale)
            args.weight[0] = device.bytes("u8", (kept.numel(),), kept.contiguous())
            args.tile_rows[0], args.tile_columns[0] = (device.bytes("i32", (len(t),), t.contiguous()) for t in lists[:2])
            args.row_scale[0] = device.tensor(lists[2])
            size, density = kept.nbytes + sum(t.nbytes for t in lists), len(columns) / there.numel()
        else:
            halves = torch.full((n // 16, k // 256 * 16), scale, dtype=torch.float16).view(torch.uint8)
            panels = torch.cat([halves, words.reshape(n // 16, -1)], 1).contiguous()
            args.weight[0], size, density = device.bytes("t2", (n, k), panels), panels.nbytes, 1
        kind = f"tiles, {100 * empty:.0f} % empty" if empty else "t2"
        for rows in (1, 8, 64 if s.small else 2048):
            x = {dtype: torch.randn(rows, k, device=WHERE).to(dtype) for dtype in (torch.bfloat16, torch.float32)}
            peer = lambda: F.linear(x[torch.bfloat16], w)
            flops = 2 * rows * n * k * density if rows > 8 else 0
            for dtype in x:
                out = torch.zeros(rows, n, dtype=dtype)
                args.x, args.out[0] = device.tensor(x[dtype]), device.tensor(out)
                run = device.op("linear", args)
                run()
                close(device.read(args.out[0], out), F.linear(x[dtype].float(), w.float()), 2e-2) # x rounded to int8
                yield f"{kind}, x {str(dtype)[6:]} [{rows}, {k}] to {n}", *by_turns(device, run, peer, s.rounds), flops, 0 if flops else size
        device.forget()


def roofs():
    if not CUDA:
        return None
    a, b = (torch.randn(8192, 8192, dtype=torch.bfloat16, device=WHERE) for _ in range(2))
    c_, source = torch.empty_like(a), torch.empty(1 << 28, device=WHERE)
    target = torch.empty_like(source)
    wait = torch.cuda.synchronize
    return {"tflops": 2 * 8192 ** 3 / burst(lambda: torch.mm(a, b, out=c_), wait) * 1e-12,
            "gb_s": 2 * source.nbytes / burst(lambda: target.copy_(source), wait) * 1e-9}


def memory(device, s):
    """ours_s and peer_s are bytes here."""
    n, d, heads = (256 if s.small else 8192), 64, 16
    q, k, v, d_out = inputs(1, heads, n, d, torch.bfloat16)
    device.check(device.lib.clf_memory_trim(device.context))
    device.check(device.lib.clf_memory_reset_peak(device.context))
    args, run = device.forward(q, k, v, q, torch.zeros(1, heads, n), causal=True)
    run()
    device.backward(args, d_out, q, k, v)()
    stats = MemoryStats()
    device.check(device.lib.clf_memory_get_stats(device.context, c.byref(stats)))
    peer = None
    if CUDA:
        before = torch.cuda.memory_allocated() - 4 * q.nbytes
        torch.cuda.reset_peak_memory_stats()
        for x in (q, k, v):
            x.requires_grad_()
        with torch.enable_grad():
            F.scaled_dot_product_attention(q, k, v, is_causal=True).backward(d_out)
        peer = torch.cuda.max_memory_allocated() - before
    yield f"peak bytes, attention and gradients [1, {heads}, {n}, {d}]", stats.peak_asked, peer, 0, 0
    device.forget()


def latency(device, s):
    one = torch.ones(1)
    args = AddArgs(a=device.tensor(one), b=device.tensor(one), out=device.tensor(one))
    run = device.op("add", args)
    theirs = torch.ones(1, device=WHERE)

    def waited():
        run()
        device.sync()

    def peer():
        torch.add(theirs, theirs, out=theirs)
        if CUDA:
            torch.cuda.synchronize()

    yield "add of one element, enqueued and waited for", *by_turns(device, waited, peer, s.rounds), 0, 0
    yield "add of one element, enqueued", *by_turns(device, run, peer, s.rounds), 0, 0
    device.forget()


PARTS = {f.__name__: f for f in (latency, forward, backward, mask, decode, fused, quantised, ternary, memory)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib", required=True)
    parser.add_argument("--device", default="opencl")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--small", action="store_true")
    s = parser.parse_args()
    torch.set_grad_enabled(False)
    device = Device(s.lib, s.device, 0)
    s.silu = 1
    results, failed, roof = [], [], roofs()
    for part in s.part:
        try:
            for name, ours, peer, flops, size in PARTS[part](device, s):
                tflops, gb_s = flops / ours * 1e-12, size / ours * 1e-9
                results.append({"part": part, "name": name, "ours_s": ours, "peer_s": peer, "tflops": tflops, "gb_s": gb_s,
                                "of_flops": tflops / roof["tflops"] if roof and part != "memory" else None,
                                "of_bandwidth": gb_s / roof["gb_s"] if roof and part != "memory" else None})
                if part == "memory":
                    print(f"{part:9s} {name:44s} {ours} bytes{f', PyTorch {peer}' if peer else ''}", file=sys.stderr, flush=True)
                    continue
                print(f"{part:9s} {name:44s} {ours * 1e6:11.1f} us {flops / ours * 1e-12:7.2f} TFLOP/s {size / ours * 1e-9:7.1f} GB/s"
                      f"{f'   {peer / ours:6.2f} × PyTorch' if peer else ''}", file=sys.stderr, flush=True)
        except (RuntimeError, SystemExit) as error: # the other parts still count
            failed.append({"part": part, "error": str(error)})
            print(f"{part:9s} FAILED: {error}", file=sys.stderr, flush=True)
    print(json.dumps({"device": device.name(), "peer": torch.__version__ + (" " + torch.cuda.get_device_name() if CUDA else " CPU"),
                      "roofs": roof, "results": results, "failed": failed}, indent=1))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
