#!/usr/bin/env python3
"""The loss of a default model on stories that it was not trained on, computed
with numpy from the GGUF file alone: an independent check of what clformer made.

    python3 held_out.py default.gguf

--int8 rounds what the blocks' matrices are multiplied by to int8, a token at a
time, as training with --ternary does; --ternary rounds these matrices too, as
if that were all there is to making a model ternary. It needs numpy, tokenizers and gguf, and the seed of the tokenizer (1).
"""

import argparse
import math

import gguf
import numpy as np

from start import (BEGIN, CONTEXT, END, EPS, HEAD_SIZE, HEADS, HELD_OUT_SEED, HELD_OUT_STORIES, KV_HEADS, LAYERS,
                   ROPE_BASE, TOKENIZER_STORIES, train_tokenizer)
from stories import stories


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPS) * weight


def rotate(x):
    """RoPE over the pairs (2i, 2i+1) of [heads, tokens, HEAD_SIZE]."""
    angle = np.outer(np.arange(x.shape[1]), ROPE_BASE ** (-np.arange(0, HEAD_SIZE, 2) / HEAD_SIZE))
    cos, sin, even, odd = np.cos(angle), np.sin(angle), x[..., 0::2], x[..., 1::2]
    return np.stack((even * cos - odd * sin, even * sin + odd * cos), -1).reshape(x.shape)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def int8(x):
    step = np.abs(x).max(-1, keepdims=True) / 127
    return np.rint(x / step) * step


def ternary(w):
    scale = float(np.float16(np.abs(w).mean()))
    return scale * np.clip(np.rint(w / scale), -1, 1)


def logits(w, ids, seen=lambda x: x):
    """`seen` is what the blocks' matrices see of their input."""
    n = len(ids)
    x = w["token_embd"][ids]
    hidden = np.triu(np.full((n, n), -np.inf), 1)
    heads = lambda y: y.reshape(n, -1, HEAD_SIZE).transpose(1, 0, 2)
    for i in range(LAYERS):
        b = lambda name: w[f"blk.{i}.{name}"]
        h = seen(norm(x, b("attn_norm")))
        q, k = rotate(heads(h @ b("attn_q").T)), rotate(heads(h @ b("attn_k").T))
        k, v = (t.repeat(HEADS // KV_HEADS, 0) for t in (k, heads(h @ b("attn_v").T)))
        o = softmax(q @ k.transpose(0, 2, 1) / math.sqrt(HEAD_SIZE) + hidden) @ v
        x = x + seen(o.transpose(1, 0, 2).reshape(n, -1)) @ b("attn_output").T
        h = seen(norm(x, b("ffn_norm")))
        gate = h @ b("ffn_gate").T
        x = x + seen(gate / (1 + np.exp(-gate)) * (h @ b("ffn_up").T)) @ b("ffn_down").T
    return norm(x, w["output_norm"]) @ w["token_embd"].T


def held_out_loss(path, tokenizer, seen=lambda x: x, matrix=lambda w: w):
    """Mean cross-entropy of each token of each story given those before it."""
    w = {}
    for t in gguf.GGUFReader(path).tensors:
        values = gguf.dequantize(t.data, t.tensor_type).astype(np.float64)
        w[t.name.removesuffix(".weight")] = matrix(values) if t.name.startswith("blk.") and values.ndim > 1 else values
    total = count = 0
    for text in stories(HELD_OUT_SEED, HELD_OUT_STORIES):
        ids = np.array([tokenizer.token_to_id(BEGIN), *tokenizer.encode(text).ids, tokenizer.token_to_id(END)][:CONTEXT + 1])
        p = softmax(logits(w, ids[:-1], seen))
        total -= np.log(p[np.arange(len(ids) - 1), ids[1:]]).sum()
        count += len(ids) - 1
    return total / count


def main():
    parser = argparse.ArgumentParser(description="The loss on stories not trained on.")
    parser.add_argument("model")
    parser.add_argument("--seed", type=int, default=1, help="of start.py")
    parser.add_argument("--int8", action="store_true", help="round the inputs of the blocks' matrices")
    parser.add_argument("--ternary", action="store_true", help="round these matrices, and their inputs")
    args = parser.parse_args()
    rounding = {}
    if args.int8 or args.ternary:
        rounding["seen"] = int8
    if args.ternary:
        rounding["matrix"] = ternary
    loss = held_out_loss(args.model, train_tokenizer(stories(args.seed, TOKENIZER_STORIES)), **rounding)
    print(f"held-out loss {loss:.6f}, perplexity {math.exp(loss):.4f}")


if __name__ == "__main__":
    main()
