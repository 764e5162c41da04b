#!/usr/bin/env python3
"""Golden data from PyTorch and transformers: tiny random-weight models with logits and, unless they are variants, every
gradient (models), LoRA adapters with logits (adapters), optimizer and LoRA trajectories (train), attention cases in
float64 (attention).

    pip install torch transformers peft safetensors numpy
    python3 make.py OUT [--seed N] [--only models|adapters|train|attention] [NAME...]

writes OUT/models/NAME, OUT/adapters/NAME, OUT/train/NAME, OUT/attention. Everything runs on the CPU, in float32 (attention:
float64); one seed gives one result, whatever is left out. make_gguf.py turns models and adapters into GGUF files.
"""
import argparse, json, math, os
import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

os.environ["HF_HUB_OFFLINE"] = "1"
import transformers as tf
from peft import LoraConfig, get_peft_model

V, B, T = 96, 2, 24
base = dict(vocab_size=V, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=16)
LONGROPE = dict(rope_type="longrope", rope_theta=10000.0, partial_rotary_factor=0.5, short_factor=[1.0, 1.3],
                long_factor=[1.2, 4.5])


def DEFAULT(theta):
    return dict(rope_type="default", rope_theta=theta)


MODELS = {
    "llama":     ("LlamaConfig", dict(rms_norm_eps=1e-5, rope_parameters=DEFAULT(10000.0), tie_word_embeddings=False)),
    "llama3":    ("LlamaConfig", dict(rms_norm_eps=1e-5, rope_parameters=LLAMA3, tie_word_embeddings=True)),
    "mistral":   ("MistralConfig", dict(rms_norm_eps=1e-5, rope_parameters=DEFAULT(1e6), sliding_window=8, head_dim=16)),
    "qwen2":     ("Qwen2Config", dict(rms_norm_eps=1e-6, rope_parameters=DEFAULT(1e6), tie_word_embeddings=True)),
    "qwen3":     ("Qwen3Config", dict(rms_norm_eps=1e-6, rope_parameters=DEFAULT(1e6), head_dim=16, tie_word_embeddings=True)),
    "gemma2":    ("Gemma2Config", dict(rms_norm_eps=1e-6, rope_parameters=DEFAULT(10000.0), head_dim=16, sliding_window=8,
                                       query_pre_attn_scalar=16, attn_logit_softcapping=5.0, final_logit_softcapping=3.0)),
    "phi3":      ("Phi3Config", dict(rms_norm_eps=1e-5, rope_parameters=DEFAULT(10000.0), tie_word_embeddings=False)),
    # six layers: five slide, the last sees everything; smaller, so that the file stays small
    "gemma3":    ("Gemma3TextConfig", dict(hidden_size=32, intermediate_size=40, num_hidden_layers=6, num_attention_heads=2,
                                           num_key_value_heads=1, head_dim=16, sliding_window=8, query_pre_attn_scalar=24,
                                           rope_parameters=dict(full_attention=dict(rope_type="linear", rope_theta=1e6, factor=8.0),
                                                                sliding_attention=DEFAULT(10000.0)))),
}
# Settings that the models above leave out; narrower, and without gradients.
VARIANTS = {
    "llama-yarn":    ("LlamaConfig", dict(rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0,
                                                               original_max_position_embeddings=16))),
    "llama-linear":  ("LlamaConfig", dict(rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0))),
    "llama-bias":    ("LlamaConfig", dict(rope_parameters=DEFAULT(10000.0), attention_bias=True, mlp_bias=True, head_dim=12)),
    # every sequence is longer than the original context of 4, or none is
    "phi3-longrope": ("Phi3Config", dict(original_max_position_embeddings=4, rope_parameters=LONGROPE, tie_word_embeddings=False)),
    "phi3-short":    ("Phi3Config", dict(original_max_position_embeddings=256, max_position_embeddings=1024,
                                         rope_parameters=LONGROPE, tie_word_embeddings=False, sliding_window=9)),
    "qwen2-window":  ("Qwen2Config", dict(rope_parameters=DEFAULT(1e6), use_sliding_window=True, sliding_window=8,
                                          max_window_layers=1)),
    # heads of whole blocks, for quantised caches
    "llama-wide":    ("LlamaConfig", dict(rope_parameters=DEFAULT(10000.0), head_dim=32)),
    "gemma2-wide":   ("Gemma2Config", dict(rope_parameters=DEFAULT(10000.0), head_dim=32, num_attention_heads=2,
                                           num_key_value_heads=1, sliding_window=8, query_pre_attn_scalar=32,
                                           attn_logit_softcapping=5.0, final_logit_softcapping=3.0)),
}
VARIANTS = {name: (cls, dict(hidden_size=32, intermediate_size=40) | extra) for name, (cls, extra) in VARIANTS.items()}


def build(cls, extra):
    cfg = getattr(tf, cls)(**{**base, **extra})
    cfg._attn_implementation = "eager"
    model = tf.AutoModelForCausalLM.from_config(cfg, attn_implementation="eager").float().eval()
    with torch.no_grad():  # spread weights so that every path matters; norms away from 1, biases away from 0
        for name, p in model.named_parameters():
            if p.dim() >= 2:
                p.normal_(0, 0.5 if "embed" in name else 1.5 / math.sqrt(p.shape[-1]))
            elif "norm" in name:
                p.uniform_(-0.3, 0.3).add_(0.0 if "gemma" in cls.lower() else 1.0)
            else:
                p.normal_(0, 0.2)
    return model, cfg


def batch(vocab, rng):
    ids = torch.from_numpy(rng.integers(3, vocab, (B, T)))
    labels = ids.clone()
    labels[0, :5] = -100          # a masked prompt
    labels[1, T - 7:] = -100      # a masked tail: uneven numbers of target tokens
    return ids, labels


def greedy(model, ids, n):
    out, margins = ids.clone(), []
    for _ in range(n):
        with torch.no_grad():
            top = torch.topk(model(out).logits[:, -1], 2).values
            nxt = model(out).logits[:, -1].argmax(-1)
        margins.append((top[:, 0] - top[:, 1]).min().item())
        out = torch.cat([out, nxt[:, None]], 1)
    return out, min(margins)


def one_model(out, name, cls, extra, seed, gradients):
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model, cfg = build(cls, extra)
    d = os.path.join(out, "models", name)
    os.makedirs(d, exist_ok=True)
    model.save_pretrained(d, safe_serialization=True)
    for f in os.listdir(d):
        if f not in ("config.json", "model.safetensors"):
            os.remove(os.path.join(d, f))
    ids, labels = batch(cfg.vocab_size, rng)
    res = model(ids, labels=labels)
    res.loss.backward()
    gen, margin = greedy(model, ids[:1, :8], 16)
    t = {"input_ids": ids.int(), "labels": labels.int(), "logits": res.logits.detach().contiguous(),
         "loss": res.loss.detach().reshape(1), "greedy_from_8": gen.int(), "greedy_margin": torch.tensor([margin])}
    for n, p in model.named_parameters():
        if gradients and p.grad is not None:
            t["grad." + n] = p.grad.clone().contiguous()
    save_file(t, os.path.join(d, "expect.safetensors"))
    print(f"{name:14s} loss {res.loss.item():.5f} margin {margin:.4f}")


def one_adapter(out, name, cls, extra, seed, lora):
    """A LoRA adapter for models/NAME in PEFT's format, and the logits with it."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    model, cfg = build(cls, extra)
    model = get_peft_model(model, LoraConfig(lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", **lora))
    with torch.no_grad():
        for n, p in model.named_parameters():
            if "lora_" in n:
                p.normal_(0, 0.3)
    d = os.path.join(out, "adapters", name)
    model.save_pretrained(d)
    os.remove(os.path.join(d, "README.md"))
    ids, _ = batch(cfg.vocab_size, rng)
    with torch.no_grad():
        logits = model(ids).logits
        with model.disable_adapter():
            change = (model(ids).logits - logits).norm() / logits.norm()
    save_file({"input_ids": ids.int(), "logits": logits.contiguous()}, os.path.join(d, "expect.safetensors"))
    print(f"{name:14s} adapter changes logits by {change:.3f}")


def trajectories(out, name, cls, extra, seed, steps=12):
    """Full and LoRA fine-tuning with AdamW, clipping at 1.0, two micro-batches a step weighted by target tokens."""
    for kind in ("full", "lora"):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        model, cfg = build(cls, extra)
        d = os.path.join(out, "train", f"{name}-{kind}")
        os.makedirs(d, exist_ok=True)
        model.save_pretrained(os.path.join(d, "start"), safe_serialization=True)
        if kind == "lora":
            model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM",
                                                     target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))
            with torch.no_grad():
                for n, p in model.named_parameters():
                    if "lora_A" in n:
                        p.normal_(0, 0.3)
            model.save_pretrained(os.path.join(d, "adapter_start"))
        for root, _, files in os.walk(d):
            for f in files:
                if f not in ("config.json", "model.safetensors", "adapter_config.json", "adapter_model.safetensors"):
                    os.remove(os.path.join(root, f))
        lr = 3e-3
        opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
        sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(1.0, (s + 1) / 3) * 0.5 * (1 + math.cos(math.pi * max(0, s - 2) / (steps - 2))))
        t, losses, norms, lrs = {}, [], [], []
        for s in range(steps):
            micro = [batch(cfg.vocab_size, rng) for _ in range(2)]
            n = sum((l[:, 1:] != -100).sum().item() for _, l in micro)
            opt.zero_grad()
            total = 0.0
            for i, (ids, labels) in enumerate(micro):
                t[f"ids.{s}.{i}"], t[f"labels.{s}.{i}"] = ids.int(), labels.int()
                lg = model(ids).logits[:, :-1].reshape(-1, cfg.vocab_size)
                loss = F.cross_entropy(lg.float(), labels[:, 1:].reshape(-1), ignore_index=-100, reduction="sum") / n
                loss.backward()
                total += loss.item()
            norms.append(torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0).item())
            lrs.append(opt.param_groups[0]["lr"])
            opt.step(); sched.step()
            losses.append(total)
        t["losses"], t["grad_norms"], t["lrs"] = torch.tensor(losses), torch.tensor(norms), torch.tensor(lrs, dtype=torch.float64)
        for n_, p in model.named_parameters():
            if p.requires_grad:
                t["final." + n_.replace("base_model.model.", "").replace(".default", "")] = p.detach().clone().contiguous()
        save_file(t, os.path.join(d, "expect.safetensors"))
        print(f"{name}-{kind}: loss {losses[0]:.4f} -> {losses[-1]:.4f}, norm {norms[0]:.3f}")


def attention_cases(out, seed, cases):
    """o, lse, dq, dk, dv in float64. Layout [batch, heads, seq, head_dim]. Queries are the last rows of the keys:
    query i of n_q sits at position i + n_k - n_q. lse is natural log; a row with no key has o = 0, lse = -inf."""
    g = torch.Generator().manual_seed(seed)
    rnd = lambda *s: torch.randn(*s, generator=g, dtype=torch.float64).float().double()
    d = os.path.join(out, "attention"); os.makedirs(d, exist_ok=True)
    index = {}
    for name, c in cases.items():
        b, h, hk, nq, nk, dh = c["shape"]
        q, k, v = rnd(b, h, nq, dh), rnd(b, hk, nk, dh), rnd(b, hk, nk, c.get("v_dim", dh))
        do = rnd(b, h, nq, c.get("v_dim", dh))
        for x in (q, k, v): x.requires_grad_()
        scale = c.get("scale", 1 / math.sqrt(dh))
        s = torch.einsum("bhqd,bhkd->bhqk", q, k.repeat_interleave(h // hk, 1)) * scale
        if c.get("softcap"): s = c["softcap"] * torch.tanh(s / c["softcap"])
        extra = {}
        if c.get("alibi"):
            slopes = torch.tensor([2.0 ** (-8.0 * (i + 1) / h) for i in range(h)], dtype=torch.float64)
            extra["alibi_slopes"] = slopes.float()
            qpos = torch.arange(nq) + nk - nq
            s = s - slopes.float().double()[None, :, None, None] * (qpos[:, None] - torch.arange(nk)[None, :]).abs()
        if c.get("mask"):
            m = rnd(b, 1, nq, nk); hidden = torch.rand(m.shape, generator=g) < 0.2
            extra["mask"] = m.masked_fill(hidden, -math.inf).float(); s = s + m.masked_fill(hidden, 0.0)
        qpos = (torch.arange(nq) + nk - nq)[:, None]; kpos = torch.arange(nk)[None, :]
        keep = ~hidden if c.get("mask") else torch.ones(b, 1, nq, nk, dtype=torch.bool)
        if c.get("causal"): keep &= kpos <= qpos
        if c.get("window"): keep &= (qpos - kpos < c["window"])
        if c.get("k_lengths"):
            L = torch.tensor(c["k_lengths"]); extra["k_lengths"] = L.int(); keep &= kpos[None, None] < L[:, None, None, None]
        s = s.masked_fill(~keep, -math.inf)
        if c.get("sinks"):
            sink = rnd(h); extra["sinks"] = sink.float(); sink = sink.float().double()
            full = torch.cat([s, sink[None, :, None, None].expand(b, h, nq, 1)], -1)
        else:
            full = s
        lse = torch.logsumexp(full, -1)
        p = torch.exp(s - torch.where(torch.isinf(lse), torch.zeros_like(lse), lse)[..., None])
        p = torch.where(torch.isfinite(s), p, torch.zeros_like(p))
        o = torch.einsum("bhqk,bhkd->bhqd", p, v.repeat_interleave(h // hk, 1))
        o.backward(do)
        assert all(torch.isfinite(x).all() for x in (o, q.grad, k.grad, v.grad)), name
        # checked against an independent evaluation where PyTorch has one
        if not any(c.get(x) for x in ("softcap", "alibi", "mask", "window", "k_lengths", "sinks", "v_dim")) and (nq == nk or not c.get("causal")):
            r = F.scaled_dot_product_attention(q, k.repeat_interleave(h // hk, 1), v.repeat_interleave(h // hk, 1), is_causal=bool(c.get("causal")), scale=scale)
            assert (r - o).abs().max() < 1e-12, name
        save_file({"q": q.detach().float(), "k": k.detach().float(), "v": v.detach().float(), "do": do.float(), "o": o.detach(), "lse": lse.detach(),
                   "dq": q.grad, "dk": k.grad, "dv": v.grad, **{n: x.contiguous() for n, x in extra.items()}}, os.path.join(d, name + ".safetensors"))
        index[name] = c
    json.dump(index, open(os.path.join(d, "cases.json"), "w"), indent=1)
    print("attention", len(cases))


ADAPTERS = {
    "llama": dict(r=4, lora_alpha=8, rank_pattern={"down_proj": 2}, alpha_pattern={r"layers\.1\.self_attn\.q_proj": 3},
                  target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]),
    "phi3":  dict(r=3, lora_alpha=4, use_rslora=True, target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
}

ATTENTION = {
    "full":              dict(shape=[2, 2, 2, 17, 17, 32]),
    "causal_gqa":        dict(shape=[1, 4, 2, 33, 33, 16], causal=True),
    "causal_decode":     dict(shape=[2, 4, 1, 3, 40, 16], causal=True),
    "window_softcap":    dict(shape=[1, 4, 2, 29, 29, 16], causal=True, window=7, softcap=3.0),
    "mask_causal_lengths": dict(shape=[3, 2, 2, 19, 19, 16], causal=True, mask=True, k_lengths=[19, 6, 1]),
    "sinks_window_gqa":  dict(shape=[1, 4, 2, 24, 24, 16], causal=True, window=9, sinks=True),
    "alibi_mask":        dict(shape=[1, 4, 4, 15, 21, 8], alibi=True, mask=True),
    "empty_rows":        dict(shape=[1, 2, 2, 20, 8, 16], causal=True),
    "everything":        dict(shape=[2, 6, 2, 21, 37, 24], causal=True, window=13, softcap=5.0, sinks=True, alibi=True, mask=True, k_lengths=[37, 30], scale=0.3),
}


def main(models, variants, adapters, attention):
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("out")
    ap.add_argument("names", nargs="*", help="of models; none: all")
    ap.add_argument("--seed", type=int, default=7)
    ap.add_argument("--only", choices=["models", "adapters", "train", "attention"])
    a = ap.parse_args()
    torch.use_deterministic_algorithms(True)
    if a.only in (None, "models"):
        for i, (name, (cls, extra)) in enumerate((models | variants).items()):
            if not a.names or name in a.names:
                one_model(a.out, name, cls, extra, a.seed + i, name in models)
    if a.only in (None, "adapters"):
        for i, (name, (cls, extra)) in enumerate(models.items()):
            if name in adapters and (not a.names or name in a.names):
                one_adapter(a.out, name, cls, extra, a.seed + i, adapters[name])
    if a.only in (None, "train"):
        name, (cls, extra) = next(iter(models.items()))
        trajectories(a.out, name, cls, extra, a.seed + 100)
    if a.only in (None, "attention"):
        attention_cases(a.out, a.seed + 200, attention)


if __name__ == "__main__":
    main(MODELS, VARIANTS, ADAPTERS, ATTENTION)
