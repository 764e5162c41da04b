#!/usr/bin/env python3
"""llama.cpp as a peer, through llama-cpp-python's library.

  llamacpp.py quantize IN.gguf OUT.gguf TYPE
  llamacpp.py bench MODEL.gguf [--threads N] [--prefill N] [--decode N] [--context N] [--flash 0|1]

bench prints one JSON object with the names that clformer-bench uses."""
import argparse
import ctypes
import json
import statistics
import sys
import time

import llama_cpp as L

FILE_TYPES = {"F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "Q6_K": 18}


@L.llama_log_callback
def quiet(level, text, user):
    pass


def quantize(args):
    params = L.llama_model_quantize_default_params()
    params.ftype = FILE_TYPES[args.type]
    params.nthread = 2
    return L.llama_model_quantize(args.source.encode(), args.out.encode(), ctypes.byref(params))


def private_bytes():
    total = 0
    for line in open("/proc/self/status"):
        if line.startswith(("RssAnon:", "RssShmem:")):
            total += int(line.split()[1]) * 1024
    return total


class Session:
    def __init__(self, model, length, args):
        params = L.llama_context_default_params()
        params.n_ctx = length
        params.n_batch = 2048
        params.n_ubatch = 512
        params.n_threads = params.n_threads_batch = args.threads
        if hasattr(params, "flash_attn_type"):
            params.flash_attn_type = args.flash
        else:
            params.flash_attn = bool(args.flash)
        self.context = L.llama_init_from_model(model, params)
        assert self.context, "no context"

    def eval(self, ids):
        array = (L.llama_token * len(ids))(*ids)
        assert L.llama_decode(self.context, L.llama_batch_get_one(array, len(ids))) == 0
        L.llama_synchronize(self.context)

    def clear(self):
        L.llama_memory_clear(L.llama_get_memory(self.context), True)

    def close(self):
        L.llama_free(self.context)


def bench(args):
    before = private_bytes()
    start = time.perf_counter()
    params = L.llama_model_default_params()
    params.n_gpu_layers = 0
    model = L.llama_model_load_from_file(args.model.encode(), params)
    assert model, "no model"
    load = time.perf_counter() - start
    session = Session(model, 64, args)
    session.eval([3])
    first = time.perf_counter() - start
    session.close()

    vocab = L.llama_vocab_n_tokens(L.llama_model_get_vocab(model))
    longest = max(args.prefill, args.context)
    ids = [3 + i * 7919 % (vocab - 4) for i in range(longest + 97)]
    session = Session(model, longest + args.decode + 1, args)
    prefill = []
    while args.prefill and len(prefill) < 3:
        session.clear()
        begin = time.perf_counter()
        session.eval(ids[: args.prefill])
        prefill.append(time.perf_counter() - begin)
    if args.context > args.prefill:
        for at in range(args.prefill, args.context, 512):
            session.eval(ids[at : min(at + 512, args.context)])
    decode = []
    for i in range(args.decode):
        begin = time.perf_counter()
        session.eval([ids[i % 97]])
        decode.append(time.perf_counter() - begin)
    print(json.dumps({
        "load_s": load,
        "first_token_s": first,
        "prefill_tokens_per_s": args.prefill / statistics.median(prefill) if prefill else 0,
        "decode_tokens_per_s": 1 / statistics.median(decode) if decode else 0,
        "weight_bytes": L.llama_model_size(model),
        "private_bytes": private_bytes() - before,
    }))
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    q = commands.add_parser("quantize")
    q.add_argument("source")
    q.add_argument("out")
    q.add_argument("type", choices=FILE_TYPES)
    q.set_defaults(run=quantize)
    b = commands.add_parser("bench")
    b.add_argument("model")
    b.add_argument("--threads", type=int, default=2)
    b.add_argument("--prefill", type=int, default=256)
    b.add_argument("--decode", type=int, default=32)
    b.add_argument("--context", type=int, default=0)
    b.add_argument("--flash", type=int, default=0)
    b.set_defaults(run=bench)
    args = parser.parse_args()
    L.llama_backend_init()
    L.llama_log_set(quiet, ctypes.c_void_p(0))
    sys.exit(args.run(args))


if __name__ == "__main__":
    main()
