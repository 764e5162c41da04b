#!/usr/bin/env bash
# nvidia-driver.sh: every OpenCL program, the portable ones and those for tensor cores, through the compiler of NVIDIA's driver and ptxas: no GPU is needed.
set -euo pipefail
cd "$(dirname "$0")/.."
.ci/cl-lint.sh --driver
.ci/nvidia.sh --driver "$@"
