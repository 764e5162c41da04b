#!/usr/bin/env bash
# format.sh: every C and OpenCL source as .clang-format has it; no tabs, no trailing blanks; shell scripts parse.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t sources < <(git ls-files '*.c' '*.h')
format=$(command -v clang-format-14 || command -v clang-format) || exit 77
"$format" --dry-run --Werror "${sources[@]}"
mapfile -t texts < <(git ls-files '*.c' '*.h' '*.cl' '*.cmake' 'CMakeLists.txt' '*.sh' '*.md' '*.py' '.ci/run')
if grep -nP '\t' "${texts[@]}"; then echo "tabs" >&2; exit 1; fi
if grep -nP ' +$' "${texts[@]}"; then echo "trailing blanks" >&2; exit 1; fi
for script in $(git ls-files '*.sh' '.ci/run'); do bash -n "$script"; done
