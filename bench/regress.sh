#!/usr/bin/env bash
# regress.sh: two revisions built in temporary worktrees and timed in turns. Prints what became slower or faster by more than 5 %, and
# fails if anything became slower by more than the limit. A gate for people to run on a quiet machine, not a test.
# usage: bench/regress.sh REV [NEW (default HEAD)] [--rounds N] [--limit PERCENT (default 10)] [-- clformer-bench options]
set -euo pipefail
cd "$(git -C "$(dirname "$0")" rev-parse --show-toplevel)"

declare -A revision=([old]='' [new]=HEAD)
rounds=3 limit=10 options=()
while [ $# -gt 0 ]; do
    case $1 in
    --rounds) rounds=$2; shift 2 ;;
    --limit) limit=$2; shift 2 ;;
    --) shift; options=("$@"); break ;;
    -h | --help) sed -n '2,4s/^# //p' "$0"; exit 0 ;;
    *) if [ -z "${revision[old]}" ]; then revision[old]=$1; else revision[new]=$1; fi; shift ;;
    esac
done
[ -n "${revision[old]}" ] || { sed -n '4s/^# //p' "$0" >&2; exit 2; }

work=$(mktemp -d)
trap 'git worktree remove --force "$work/old" 2>/dev/null; git worktree remove --force "$work/new" 2>/dev/null; rm -rf "$work"' EXIT
for side in old new; do
    git worktree add -q --detach "$work/$side" "${revision[$side]}"
    cmake -S "$work/$side" -B "$work/$side/build" -DCMAKE_BUILD_TYPE=Release -DCLFORMER_TESTS=OFF -DCLFORMER_EXAMPLES=OFF \
        -DCLFORMER_OPENCL=OFF >"$work/$side.log"
    cmake --build "$work/$side/build" -j "$(nproc)" --target clformer-bench >>"$work/$side.log" || { cat "$work/$side.log" >&2; exit 1; }
done
for round in $(seq "$rounds"); do
    for side in old new; do
        echo "round $round of $rounds: ${revision[$side]}" >&2
        "$work/$side/build/bin/clformer-bench" --json "$work/$side.$round.json" ${options[@]+"${options[@]}"} >/dev/null
    done
done
python3 bench/regress.py "$work" "$rounds" "$limit"
