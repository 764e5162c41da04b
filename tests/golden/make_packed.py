#!/usr/bin/env python3
"""Makes packed/NAME: a one-layer LLaMA whose matrices are quantised as others do it, with what its weights mean and its
logits in float32. NF4 comes from bitsandbytes; GPTQ and AWQ are packed here by their formulas, which are written with
numpy alone and checked by unpacking. Needs torch, transformers, bitsandbytes, safetensors, numpy.

    python3 make_packed.py OUT
"""
import json, os, sys
import numpy as np
import torch
from safetensors.torch import save_file

os.environ["HF_HUB_OFFLINE"] = "1"
import transformers as tf
from bitsandbytes.functional import dequantize_4bit, dequantize_blockwise, quantize_4bit

CONFIG = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2,
              num_key_value_heads=1, head_dim=32, max_position_embeddings=64, bos_token_id=1, eos_token_id=2,
              tie_word_embeddings=True, rms_norm_eps=1e-5, rope_parameters=dict(rope_type="default", rope_theta=10000.0))
BITSANDBYTES = dict(quant_method="bitsandbytes", load_in_4bit=True, load_in_8bit=False, bnb_4bit_quant_type="nf4",
                    bnb_4bit_compute_dtype="float32", bnb_4bit_quant_storage="uint8")
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
SAVED = ["model.layers.0.self_attn.q_proj", "model.layers.0.mlp.down_proj"]  # whose weights the test compares


def nf4(weight, nested):
    """bitsandbytes' own parts, and what they mean: blocks of 64 run on from row to row. (Its CPU kernel of version 0.50
    takes the wrong scale where a row isn't whole blocks; elsewhere it is held to the same bits.)"""
    packed, state = quantize_4bit(weight, blocksize=64, compress_statistics=nested, quant_type="nf4")
    parts = {"weight": packed}
    parts |= {"weight." + name: value for name, value in state.as_dict(packed=True).items()}
    absmax = dequantize_blockwise(state.absmax, state.state2) + state.offset if nested else state.absmax
    codes = torch.stack([packed.flatten() >> 4, packed.flatten() & 15], 1).flatten().long()
    meant = (state.code[codes] * absmax.float().repeat_interleave(64)[:codes.numel()]).reshape(weight.shape)
    assert weight.shape[1] % 64 or torch.equal(meant, dequantize_4bit(packed, state).float())
    return parts, meant


def pack(values, order=range(8)):
    """The last dimension's codes in int32s: bits 4i … 4i + 3 hold column order[i] of each eight."""
    v = values.astype(np.uint32).reshape(*values.shape[:-1], -1, 8)
    out = np.zeros(v.shape[:-1], np.uint32)
    for i, column in enumerate(order):
        out |= v[..., column] << np.uint32(4 * i)
    return out.view(np.int32)


def groups(rng, rows, columns, group, symmetric):
    n = -(-columns // group)
    codes = rng.integers(0, 16, (columns, rows))
    zeros = np.full((n, rows), 8) if symmetric else rng.integers(0, 16, (n, rows))
    scales = (rng.uniform(0.5, 1.5, (n, rows)) * 0.2 / np.sqrt(columns)).astype(np.float16)
    return codes, zeros, scales


def meaning(codes, zeros, scales, index):
    """scale · (code − zero), exactly; and as the libraries compute it, in float16."""
    difference = (codes - zeros[index]).T
    scale = scales[index].T
    exact = scale.astype(np.float32) * difference.astype(np.float32)
    assert (exact.astype(np.float16) == scale * difference.astype(np.float16)).all()
    return torch.from_numpy(exact)


def gptq(rng, rows, columns, group, symmetric, order, v2):
    codes, zeros, scales = groups(rng, rows, columns, group, symmetric)
    index = np.arange(columns) // group
    if order:
        index = index[rng.permutation(columns)]
    parts = {"qweight": pack(codes.T).T, "qzeros": pack(zeros if v2 else (zeros - 1) % 16), "scales": scales,
             "g_idx": index.astype(np.int32)}
    back = (parts["qweight"][:, None, :] >> (4 * np.arange(8))[None, :, None] & 15).reshape(columns, rows)
    assert (back == codes).all()
    return parts, meaning(codes, zeros, scales, index)


def awq(rng, rows, columns, group):
    codes, zeros, scales = groups(rng, rows, columns, group, False)
    parts = {"qweight": pack(codes, AWQ_ORDER), "qzeros": pack(zeros, AWQ_ORDER), "scales": scales}
    back = (parts["qweight"][:, :, None] >> (4 * np.arange(8)) & 15)[:, :, np.argsort(AWQ_ORDER)].reshape(columns, rows)
    assert (back == codes).all()
    return parts, meaning(codes, zeros, scales, np.arange(columns) // group)


def GPTQ(group, symmetric=False, order=False, v2=False):
    config = dict(quant_method="gptq", bits=4, group_size=group, desc_act=order, sym=symmetric)
    if v2:
        config["checkpoint_format"] = "gptq_v2"
    return config, lambda rng, weight: gptq(rng, *weight.shape, weight.shape[1] if group < 0 else group, symmetric, order, v2)


KINDS = {
    "nf4":        (BITSANDBYTES | dict(bnb_4bit_use_double_quant=True), lambda rng, weight: nf4(weight, True)),
    "nf4-floats": (BITSANDBYTES | dict(bnb_4bit_use_double_quant=False), lambda rng, weight: nf4(weight, False)),
    "gptq":       GPTQ(32, symmetric=True),
    "gptq-zeros": GPTQ(64),
    "gptq-v2":    GPTQ(-1, v2=True),
    "gptq-order": GPTQ(32, order=True),
    "awq":        (dict(quant_method="awq", bits=4, group_size=32, zero_point=True, version="gemm"),
                   lambda rng, weight: awq(rng, *weight.shape, 32)),
    "plain":      (None, None),  # to be written as NF4: every matrix has rows of whole blocks
}


def main(out):
    for seed, (name, (quantization, make)) in enumerate(KINDS.items()):
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        config = CONFIG | (dict() if make else dict(intermediate_size=128))
        cfg = tf.LlamaConfig(**config)
        cfg._attn_implementation = "eager"
        model = tf.AutoModelForCausalLM.from_config(cfg, attn_implementation="eager").float().eval()
        tensors, expect = {}, {}
        with torch.no_grad():
            for p, w in list(model.named_parameters()):
                w.copy_((1 + 0.2 * torch.randn_like(w) if w.dim() < 2 else torch.randn_like(w) / w.shape[-1] ** 0.5).half().float())
                if "_proj" not in p or not make:
                    tensors[p] = w.detach().half().contiguous()
                    continue
                stem = p[:-len(".weight")]
                source = w.detach().clone()
                parts, meant = make(rng, source)
                for part, value in parts.items():
                    value = torch.from_numpy(np.ascontiguousarray(value)) if isinstance(value, np.ndarray) else value
                    tensors[f"{stem}.{part}"] = value.clone().contiguous()
                w.copy_(meant)
                if stem == SAVED[0] and name == "nf4":
                    expect["source"] = source.half()
                if stem in SAVED:
                    expect[p] = meant.clone().contiguous()
            ids = torch.from_numpy(rng.integers(3, cfg.vocab_size, (1, 8)))
            expect |= {"input_ids": ids.int(), "logits": model(ids).logits.contiguous()}
        folder = os.path.join(out, "packed", name)
        os.makedirs(folder, exist_ok=True)
        save_file(tensors, os.path.join(folder, "model.safetensors"), metadata={"format": "pt"})
        save_file(expect, os.path.join(folder, "expect.safetensors"))
        with open(os.path.join(folder, "config.json"), "w") as f:
            json.dump(dict(model_type="llama", **config) | (dict(quantization_config=quantization) if make else {}), f, indent=1)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__)))
