#!/usr/bin/env python3
"""Turns golden models and adapters (make.py's models/NAME, adapters/NAME) into GGUF files of float32, with the names,
keys and layouts that llama.cpp's converters would give them:

    pip install gguf numpy safetensors
    python3 make_gguf.py GOLDEN [NAME...]

writes GOLDEN/gguf/NAME.gguf and GOLDEN/gguf/NAME-adapter.gguf.

- llama (and mistral, which has no architecture of its own): rows of the query and key projections are permuted, so that
  rotary pairs are neighbours; llama3 scaling becomes rope_freqs.weight.
- gemma: one is added to the weights of norms.
- phi3: query, key and value stay fused in attn_qkv, gate and up in ffn_up; longrope becomes two tensors of factors.

Keys that a reader of llama.cpp's own files never meets are written where a model needs them: attention.sliding_window for
mistral, sliding_window_pattern for qwen2, attention.scale where query_pre_attn_scalar isn't head_dim. The files have no
tokenizer.
"""
import json, math, os, re, sys
import numpy as np
import gguf
from safetensors.numpy import load_file

ARCH = {"llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gemma2": "gemma2", "gemma3_text": "gemma3",
        "phi3": "phi3"}
LAYER = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
         "self_attn.o_proj": "attn_output", "self_attn.qkv_proj": "attn_qkv", "self_attn.q_norm": "attn_q_norm",
         "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
         "mlp.gate_up_proj": "ffn_up", "input_layernorm": "attn_norm", "pre_feedforward_layernorm": "ffn_norm",
         "post_feedforward_layernorm": "post_ffw_norm"}
MODEL = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(hf, gemma):
    base, suffix = hf.rsplit(".", 1)
    if base in MODEL:
        return f"{MODEL[base]}.{suffix}"
    _, _, n, part = base.split(".", 3)
    if part == "post_attention_layernorm":
        return f"blk.{n}.{'post_attention_norm' if gemma else 'ffn_norm'}.{suffix}"
    return f"blk.{n}.{LAYER[part]}.{suffix}"


def permute(w, heads):
    """[halves, pairs] rows of each head to [pairs, halves]"""
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def llama3_factors(rope, n_dims):
    freq = 1.0 / rope["rope_theta"] ** (np.arange(0, n_dims, 2, dtype=np.float64) / n_dims)
    low, high, ctx, factor = (rope[k] for k in ("low_freq_factor", "high_freq_factor", "original_max_position_embeddings", "factor"))
    out = []
    for f in freq:
        wave = 2 * math.pi / f
        if wave < ctx / high:
            out.append(1.0)
        elif wave > ctx / low:
            out.append(factor)
        else:
            s = (ctx / wave - low) / (high - low)
            out.append(1 / ((1 - s) / factor + s))
    return np.array(out, dtype=np.float32)


def rope_keys(w, arch, c, rope, head_dim):
    n_dims = int(head_dim * rope.get("partial_rotary_factor", 1.0))
    w.add_rope_dimension_count(n_dims)
    w.add_rope_freq_base(rope["rope_theta"])
    kind = rope["rope_type"]
    if kind == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(rope, n_dims))
    elif kind == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        w.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        w.add_rope_scaling_factor(rope["factor"])
        w.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])
    elif kind == "longrope":
        original = c["original_max_position_embeddings"]
        scale = c["max_position_embeddings"] / original
        w.add_rope_scaling_orig_ctx_len(original)
        w.add_rope_scaling_attn_factors(1.0 if scale <= 1 else math.sqrt(1 + math.log(scale) / math.log(original)))
        w.add_tensor("rope_factors_long.weight", np.array(rope["long_factor"], dtype=np.float32))
        w.add_tensor("rope_factors_short.weight", np.array(rope["short_factor"], dtype=np.float32))


def convert(folder, out):
    c = json.load(open(os.path.join(folder, "config.json")))
    arch, gemma = ARCH[c["model_type"]], c["model_type"].startswith("gemma")
    heads, kv = c["num_attention_heads"], c["num_key_value_heads"]
    head_dim = c.get("head_dim") or c["hidden_size"] // heads
    rope = c["rope_parameters"]
    w = gguf.GGUFWriter(out, arch)
    w.add_name(os.path.basename(folder))
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_block_count(c["num_hidden_layers"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(heads)
    w.add_head_count_kv(kv)
    if head_dim != c["hidden_size"] // heads:
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    w.add_vocab_size(c["vocab_size"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_file_type(gguf.LlamaFileType.ALL_F32)
    rope_keys(w, arch, c, rope.get("full_attention", rope), head_dim)
    if "sliding_attention" in rope:
        w.add_rope_freq_base_swa(rope["sliding_attention"]["rope_theta"])
    if c.get("sliding_window"):
        w.add_sliding_window(c["sliding_window"])
        if arch == "qwen2":
            w.add_sliding_window_pattern([t == "sliding_attention" for t in c["layer_types"]])
    if c.get("attn_logit_softcapping"):
        w.add_attn_logit_softcapping(c["attn_logit_softcapping"])
    if c.get("final_logit_softcapping"):
        w.add_final_logit_softcapping(c["final_logit_softcapping"])
    if c.get("query_pre_attn_scalar", head_dim) != head_dim:
        w.add_attention_scale(c["query_pre_attn_scalar"] ** -0.5)
    w.add_bos_token_id(c["bos_token_id"])
    w.add_eos_token_id(c["eos_token_id"])
    for name, t in load_file(os.path.join(folder, "model.safetensors")).items():
        t = t.astype(np.float32)
        if arch == "llama" and ".q_proj." in name:
            t = permute(t, heads)
        if arch == "llama" and ".k_proj." in name:
            t = permute(t, kv)
        if gemma and "norm" in name:
            t = t + 1
        w.add_tensor(gguf_name(name, gemma), np.ascontiguousarray(t))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def adapter(folder, base, out):
    """One alpha serves all pairs of a GGUF adapter: B takes up what PEFT's scale of a pair differs by."""
    c, m = (json.load(open(os.path.join(f, n))) for f, n in ((folder, "adapter_config.json"), (base, "config.json")))
    arch, alpha = ARCH[m["model_type"]], float(c["lora_alpha"])
    w = gguf.GGUFWriter(out, arch)
    w.add_type(gguf.GGUFType.ADAPTER)
    w.add_string(gguf.Keys.Adapter.TYPE, "lora")
    w.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    tensors = load_file(os.path.join(folder, "adapter_model.safetensors"))
    for name, a in tensors.items():
        if not name.endswith(".lora_A.weight"):
            continue
        b = tensors[name.replace(".lora_A.", ".lora_B.")]
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        own = next((v for k, v in c["alpha_pattern"].items() if re.match(rf"(.*\.)?({k})$", module)), alpha)
        rank = a.shape[0]
        b = b * np.float32(own / (math.sqrt(rank) if c["use_rslora"] else rank) / (alpha / rank))
        if arch == "llama" and module.endswith(("q_proj", "k_proj")):
            b = permute(b, m["num_attention_heads" if module.endswith("q_proj") else "num_key_value_heads"])
        base_name = gguf_name(module + ".weight", m["model_type"].startswith("gemma"))
        w.add_tensor(base_name + ".lora_a", a)
        w.add_tensor(base_name + ".lora_b", np.ascontiguousarray(b))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def main():
    golden, names = sys.argv[1], sys.argv[2:]
    models, adapters, out = (os.path.join(golden, d) for d in ("models", "adapters", "gguf"))
    os.makedirs(out, exist_ok=True)
    for name in names or sorted(os.listdir(models)):
        convert(os.path.join(models, name), os.path.join(out, name + ".gguf"))
        if os.path.isdir(os.path.join(adapters, name)):
            adapter(os.path.join(adapters, name), os.path.join(models, name), os.path.join(out, name + "-adapter.gguf"))


if __name__ == "__main__":
    main()
