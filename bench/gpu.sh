#!/usr/bin/env bash
# gpu.sh: everything to ask a machine with an NVIDIA GPU, in one command: builds, finds the OpenCL driver, compares the two bodies of cl/nvidia/warp.h,
# runs the tests on the GPU, then times attention and the fused ops, and PyTorch beside them.
# usage: bench/gpu.sh [FOLDER]    results go to FOLDER (default build/gpu): a log and a JSON file for each step
# PYTHON names a Python with PyTorch; without one its figures are left out. Exits 77 where there is no NVIDIA GPU.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$(realpath -m "${1:-build/gpu}")
mkdir -p "$out"
status=0
step() { # NAME COMMAND...
    local name=$1 code=0
    shift
    echo "== $name"
    "$@" >"$out/$name.log" 2>&1 || code=$?
    tail -3 "$out/$name.log"
    echo "== $name: exit $code"
    [ $code = 0 ] || [ $code = 77 ] || status=1
    return $code
}

python=${PYTHON:-python3}
trials() { # JSON LOG...: the lines that the library logs when it tries kernels out
    "$python" - "$@" <<'PY' || status=1
import json, os, re, sys
line = re.compile(r"^log trial of attention's tile (\w+) (\d+), (\d+)×(\d+), (.*), (f16|bf16): (.*)$")
found = []
for path in sys.argv[2:]:
    for text in open(path, errors="replace"):
        if (m := line.match(text.rstrip("\n"))):
            use, dim, rows, keys, products, dtype, answer = m.groups()
            found.append({"step": os.path.basename(path)[:-4], "use": use, "dim": int(dim), "rows": int(rows), "keys": int(keys), "products": products,
                          "dtype": dtype, "right": answer == "known answers are right", "answer": answer})
json.dump({"trials": found}, open(sys.argv[1], "w"), indent=1)
for t in found:
    if t["products"] != "mma": print(t["use"], t["dim"], t["dtype"], "by", t["products"] + ":", t["answer"])
PY
}

nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv | tee "$out/gpu.csv" || { echo "skipped: no NVIDIA GPU"; exit 77; }
# containers bring the driver's library but often not the file that names it to the loader
library=$(ldconfig -p | sed -n 's/.*=> \(.*libnvidia-opencl\.so\.1\)$/\1/p' | head -1)
for folder in /usr/local/nvidia/lib64 /usr/lib64 /usr/lib/x86_64-linux-gnu; do
    [ -n "$library" ] || [ ! -e $folder/libnvidia-opencl.so.1 ] || library=$folder/libnvidia-opencl.so.1
done
[ -n "$library" ] || { echo "skipped: the driver's libnvidia-opencl.so.1 is not there"; exit 77; }
rm -rf "$out/cache" # what it remembers would not be tried again, nor logged
mkdir -p "$out/vendors"
echo "$library" >"$out/vendors/nvidia.icd"
export OCL_ICD_VENDORS=$out/vendors OCL_ICD_FILENAMES=$library CUDA_CACHE_DISABLE=1 CLFORMER_CACHE_DIR=$out/cache CLFORMER_LOG=4

cmake -S . -B build/release -DCMAKE_BUILD_TYPE=Release >"$out/configure.log" && cmake --build build/release -j "$(nproc)" >"$out/build.log" 2>&1 ||
    { tail -20 "$out/build.log"; exit 1; }
bin=build/release/bin
step devices "$bin/clformer-info" || true

# each operation's known answers come first: a wrong one is named in the log, the portable kernels take over, and these steps fail
for dtype in f16 bf16; do
    step attention-$dtype env CLFORMER_OPENCL_TENSOR_CORES=auto tests/tensor_cores.sh "$bin/test-attention" --dtype $dtype
done
# wgmma: by which ways the driver takes it, and what it says to the others
for way in wgmma wgmma-arch wgmma-ptx; do
    grep -q ', 9\.0,' "$out/gpu.csv" || break
    for dtype in f16 bf16; do
        step attention-$way-$dtype env CLFORMER_OPENCL_TENSOR_CORES=$way "$bin/test-attention" --device opencl --verbose --dtype $dtype --most-cost 3e8
    done
done
trials "$out/trials.json" "$out"/attention-*.log
for dtype in f32 f16 bf16; do
    step linear-$dtype env CLFORMER_OPENCL_TENSOR_CORES=auto tests/tensor_cores.sh "$bin/test-linear" --dtype $dtype
done
step attention-portable env CLFORMER_OPENCL_TENSOR_CORES=off "$bin/test-attention" --device opencl
for op in rms_norm rope glu linear embedding convert argmax softcap add; do step "$op" "$bin/test-$op" --device opencl; done
step assembled .ci/nvidia.sh
step driver-compiler .ci/nvidia-driver.sh
bench() { # NAME OPTIONS...
    local name=$1
    shift
    step "bench-$name" "$bin/clformer-bench" --device opencl --no-roofs --json "$out/$name.json" "$@"
}
for dtype in f16 bf16 f32; do
    for op in attention rms_norm rope glu linear; do bench "$op-$dtype" --op $op --dtype $dtype; done
done
for dtype in f16 bf16; do CLFORMER_OPENCL_TENSOR_CORES=mma bench attention-mma-$dtype --op attention --dtype $dtype; done # beside wgmma, where that is used
CLFORMER_OPENCL_TENSOR_CORES=off bench attention-portable --op attention --dtype f16
for dtype in f16 f32; do CLFORMER_OPENCL_TENSOR_CORES=off bench linear-portable-$dtype --op linear --dtype $dtype; done
step unfused "$bin/clformer-bench" --device opencl --no-roofs --unfused 2048 --json "$out/unfused.json"
step tune "$bin/clformer-tune" --device opencl
if "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    # both sides in one process by turns: launches, attention forward, backward and decoding, fused ops, quantised and ternary weights, peak memory
    step pytorch sh -c "'$python' bench/peers/torch_gpu.py --lib build/release/lib/libclformer.so >'$out/pytorch.json'"
else
    echo "skipped: no PyTorch with CUDA"
fi
exit $status
