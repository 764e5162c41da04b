#!/usr/bin/env python3
"""Makes what the default model is trained from, from nothing but this folder:

    python3 start.py --out DIR

writes DIR/start.gguf, a LLaMA of random float32 weights with a byte-level BPE
tokenizer learned from generated stories; DIR/stories.jsonl to train on; and
DIR/held-out.jsonl, stories of a seed that is never trained with. It needs
numpy, tokenizers and gguf. The same seed gives the same files. train.sh does
the rest.
"""

import argparse
import json
import math
import os

import gguf
import numpy as np
import tokenizers

from stories import stories

# Every matrix's input size is a multiple of 256, so that each GGUF weight
# format, whose blocks hold up to 256 values, can store every matrix.
VOCAB, CONTEXT = 832, 512
EMBED, FFN, LAYERS = 256, 512, 3
HEADS, KV_HEADS, HEAD_SIZE = 4, 2, 64
ROPE_BASE, EPS = 10000.0, 1e-5

BEGIN, END = "<|begin|>", "<|end|>"
TOKENIZER_STORIES = 3000
HELD_OUT_SEED, HELD_OUT_STORIES = 987654321, 200   # never a --seed to train with

# The regular expression of LLaMA 3, known to GGUF as "llama-bpe".
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
         r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")


def train_tokenizer(texts):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Sequence([
        tokenizers.pre_tokenizers.Split(tokenizers.Regex(SPLIT), "isolated"),
        tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator(texts, tokenizers.trainers.BpeTrainer(
        vocab_size=VOCAB, special_tokens=[BEGIN, END], show_progress=False,
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())))
    return tokenizer


def matrices():
    """Names and shapes, [outputs, inputs]."""
    yield "token_embd", VOCAB, EMBED
    for i in range(LAYERS):
        yield f"blk.{i}.attn_q", HEADS * HEAD_SIZE, EMBED
        yield f"blk.{i}.attn_k", KV_HEADS * HEAD_SIZE, EMBED
        yield f"blk.{i}.attn_v", KV_HEADS * HEAD_SIZE, EMBED
        yield f"blk.{i}.attn_output", EMBED, HEADS * HEAD_SIZE
        yield f"blk.{i}.ffn_gate", FFN, EMBED
        yield f"blk.{i}.ffn_up", FFN, EMBED
        yield f"blk.{i}.ffn_down", EMBED, FFN


def random_weights(seed):
    random = np.random.default_rng(seed)
    for name, rows, columns in matrices():
        # The matrices that add to the residual start smaller, by its depth.
        into_residual = name.endswith(("attn_output", "ffn_down"))
        deviation = 0.02 / (math.sqrt(2 * LAYERS) if into_residual else 1)
        yield f"{name}.weight", (deviation * random.standard_normal((rows, columns))).astype(np.float32)
    for name in ["output_norm"] + [f"blk.{i}.{norm}" for i in range(LAYERS) for norm in ("attn_norm", "ffn_norm")]:
        yield f"{name}.weight", np.ones(EMBED, np.float32)


def write_gguf(path, tokenizer, tensors, file_type):
    """A model file of (name, array) pairs."""
    out = gguf.GGUFWriter(path, "llama")
    out.add_name("clformer default")
    out.add_description("Writes small children's stories; trained on generated text only.")
    out.add_license("Apache-2.0")
    out.add_file_type(file_type)
    out.add_vocab_size(VOCAB)
    out.add_context_length(CONTEXT)
    out.add_embedding_length(EMBED)
    out.add_block_count(LAYERS)
    out.add_feed_forward_length(FFN)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KV_HEADS)
    out.add_rope_dimension_count(HEAD_SIZE)
    out.add_rope_freq_base(ROPE_BASE)
    out.add_layer_norm_rms_eps(EPS)

    tokens = [tokenizer.id_to_token(i) for i in range(VOCAB)]
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    types = [gguf.TokenType.CONTROL if t in (BEGIN, END) else gguf.TokenType.NORMAL for t in tokens]
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre("llama-bpe")
    out.add_token_list(tokens)
    out.add_token_types(types)
    out.add_token_merges(merges)
    out.add_bos_token_id(tokenizer.token_to_id(BEGIN))
    out.add_eos_token_id(tokenizer.token_to_id(END))
    out.add_add_bos_token(True)
    out.add_add_eos_token(False)

    for name, data in tensors:
        out.add_tensor(name, data)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_stories(path, seed, count):
    with open(path, "w", encoding="utf-8") as f:
        for text in stories(seed, count):
            f.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")


def main():
    args = argparse.ArgumentParser(description="Make what clformer's default model is trained from.")
    args.add_argument("--seed", type=int, default=1)
    args.add_argument("--stories", type=int, default=18000)
    args.add_argument("--out", default="default-model")
    args = args.parse_args()
    os.makedirs(args.out, exist_ok=True)
    tokenizer = train_tokenizer(stories(args.seed, TOKENIZER_STORIES))
    write_gguf(os.path.join(args.out, "start.gguf"), tokenizer, random_weights(args.seed), gguf.LlamaFileType.ALL_F32)
    write_stories(os.path.join(args.out, "stories.jsonl"), args.seed, args.stories)
    write_stories(os.path.join(args.out, "held-out.jsonl"), HELD_OUT_SEED, HELD_OUT_STORIES)


if __name__ == "__main__":
    main()
