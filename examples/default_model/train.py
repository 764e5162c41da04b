#!/usr/bin/env python3
"""Makes default.gguf, clformer's default model, from nothing but this folder.

    python3 train.py --out default.gguf

It generates stories, learns a byte-level BPE tokenizer from them, trains a
small LLaMA, reports the loss on held-out stories and writes one GGUF file.
It needs torch, numpy, tokenizers and gguf. One seed, one thread count and one
torch build give one file.
"""

import argparse
import math
import time

import gguf
import torch
import torch.nn.functional as F
from torch import nn

from held_out import held_out_loss
from start import (BEGIN, CONTEXT, EMBED, END, EPS, FFN, HEAD_SIZE, HEADS, KV_HEADS, LAYERS, ROPE_BASE, TOKENIZER_STORIES, VOCAB,
                   train_tokenizer, write_gguf)
from stories import stories


def encode(tokenizer, text):
    return [tokenizer.token_to_id(BEGIN), *tokenizer.encode(text).ids, tokenizer.token_to_id(END)]


# --- model -----------------------------------------------------------------

def rotate(x, cos, sin):
    """RoPE over the interleaved pairs (2i, 2i+1), the order of "llama" in GGUF,
    so that the query and key matrices are written as they are."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


class Block(nn.Module):
    """One layer; the names of its parts are their names in the GGUF file."""

    def __init__(self):
        super().__init__()
        def linear(inputs, outputs):
            return nn.Linear(inputs, outputs, bias=False)
        self.attn_norm = nn.RMSNorm(EMBED, eps=EPS)
        self.attn_q = linear(EMBED, HEADS * HEAD_SIZE)
        self.attn_k = linear(EMBED, KV_HEADS * HEAD_SIZE)
        self.attn_v = linear(EMBED, KV_HEADS * HEAD_SIZE)
        self.attn_output = linear(HEADS * HEAD_SIZE, EMBED)
        self.ffn_norm = nn.RMSNorm(EMBED, eps=EPS)
        self.ffn_gate = linear(EMBED, FFN)
        self.ffn_up = linear(EMBED, FFN)
        self.ffn_down = linear(FFN, EMBED)

    def forward(self, x, cos, sin):
        rows, length, _ = x.shape
        def heads(y):
            return y.view(rows, length, -1, HEAD_SIZE).transpose(1, 2)
        h = self.attn_norm(x)
        q = rotate(heads(self.attn_q(h)), cos, sin)
        k = rotate(heads(self.attn_k(h)), cos, sin)
        v = heads(self.attn_v(h))
        # Each key and value head serves a group of neighbouring query heads.
        k, v = (t.repeat_interleave(HEADS // KV_HEADS, dim=1) for t in (k, v))
        h = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(h.transpose(1, 2).reshape(rows, length, -1))
        h = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(h)) * self.ffn_up(h))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.token_embd = nn.Embedding(VOCAB, EMBED)
        self.blk = nn.ModuleList(Block() for _ in range(LAYERS))
        self.output_norm = nn.RMSNorm(EMBED, eps=EPS)
        angles = torch.outer(torch.arange(CONTEXT).float(),
                             ROPE_BASE ** (-torch.arange(0, HEAD_SIZE, 2) / HEAD_SIZE))
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                # The matrices that add to the residual start smaller, by its depth.
                into_residual = "attn_output" in name or "ffn_down" in name
                nn.init.normal_(weight, std=0.02 / (math.sqrt(2 * LAYERS) if into_residual else 1))

    def forward(self, tokens):
        length = tokens.shape[1]
        x = self.token_embd(tokens)
        for block in self.blk:
            x = block(x, self.cos[:length], self.sin[:length])
        return F.linear(self.output_norm(x), self.token_embd.weight)   # tied output


# --- training --------------------------------------------------------------

def batches(tokenizer, seed, steps, rows):
    """Rows of fresh stories end to end; each row begins with a story, and the
    rest of a story that a row cuts is dropped, so no row begins in the middle."""
    source, row, batch = stories(seed, 10**9), [], []
    while steps:
        row += encode(tokenizer, next(source))
        if len(row) > CONTEXT:
            batch.append(row[:CONTEXT + 1])
            row = []
        if len(batch) == rows:
            yield torch.tensor(batch)
            batch, steps = [], steps - 1


def learning_rate(step, args):
    """A linear rise, then half a cosine down to a fiftieth of the peak."""
    warmup = min(100, args.steps // 10)
    if step < warmup:
        return args.rate * (step + 1) / warmup
    done = (step - warmup) / (args.steps - warmup)
    return args.rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))


def train(model, tokenizer, args):
    matrices = [p for p in model.parameters() if p.dim() == 2]
    norms = [p for p in model.parameters() if p.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1},
                                   {"params": norms, "weight_decay": 0.0}], betas=(0.9, 0.97))
    start = time.time()
    for step, batch in enumerate(batches(tokenizer, args.seed, args.steps, args.rows)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args)
        logits = model(batch[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if step % 50 == 0 or step == args.steps - 1:
            speed = (step + 1) * args.rows * CONTEXT / (time.time() - start)
            print(f"step {step}: loss {loss.item():.4f}, {speed:.0f} tokens/s", flush=True)


@torch.no_grad()
def sample(model, tokenizer, prompt, limit, temperature):
    ids = encode(tokenizer, prompt)[:-1]
    while len(ids) < min(limit, CONTEXT) and ids[-1] != tokenizer.token_to_id(END):
        logits = model(torch.tensor([ids]))[0, -1]
        if temperature:
            ids.append(torch.multinomial(F.softmax(logits / temperature, -1), 1).item())
        else:
            ids.append(logits.argmax().item())
    return tokenizer.decode(ids)


def main():
    args = argparse.ArgumentParser(description="Train clformer's default model.")
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--steps", type=int, default=3200)
    args.add_argument("--rows", type=int, default=4, help="rows of 512 tokens a step")
    args.add_argument("--rate", type=float, default=3e-3, help="the highest learning rate")
    args.add_argument("--threads", type=int, default=1)
    args.add_argument("--out", default="default.gguf")
    args = args.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    tokenizer = train_tokenizer(stories(args.seed, TOKENIZER_STORIES))
    model = Llama()
    print(f"{sum(p.numel() for p in model.parameters())} weights", flush=True)
    train(model, tokenizer, args)

    # What is measured and sampled is what the file holds: weights rounded to F16.
    for weight in model.parameters():
        if weight.dim() == 2:
            weight.data = weight.data.half().float()
    tensors = ((name, w.detach().half().numpy() if w.dim() == 2 else w.detach().numpy()) for name, w in model.named_parameters())
    write_gguf(args.out, tokenizer, tensors, gguf.LlamaFileType.MOSTLY_F16)
    loss = held_out_loss(args.out, tokenizer)
    print(f"held-out loss {loss:.4f}, perplexity {math.exp(loss):.3f}")
    for temperature in (0, 0.8):
        print(f"\n--- temperature {temperature}")
        print(sample(model, tokenizer, "Once upon a time", CONTEXT, temperature))


if __name__ == "__main__":
    main()
