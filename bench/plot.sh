#!/usr/bin/env bash
# plot.sh: bars from the JSON of clformer-bench (each figure as a share of the machine's roof) or of compare.sh (ratios to the peer).
# usage: bench/plot.sh FILE.json OUT.svg|OUT.png
set -euo pipefail
[ $# = 2 ] || { sed -n '3s/^# //p' "$0" >&2; exit 2; }
[ -r "$1" ] || { echo "plot.sh: $1: can't be read" >&2; exit 2; }

data=$(mktemp)
trap 'rm -f "$data"' EXIT
title=$(python3 - "$1" "$data" <<'PYTHON'
import json, sys
source = json.load(open(sys.argv[1]))
if "comparisons" in source:
    rows = [(c["name"], c["ratio"]) for c in source["comparisons"]]
    title = "clformer ÷ peer (above 1: clformer is better)"
else:
    rows = [(f"{r['op']}: {r['text'].removeprefix('bench: ')}", r["of_roof"]) for r in source.get("ops", [])]
    title = f"share of the machine's roof, {source['device']}"
with open(sys.argv[2], "w") as out:
    for name, value in reversed(rows):
        print(f'"{name}" {value}', file=out)
print(title)
PYTHON
)
rows=$(wc -l <"$data")
case $2 in
*.png) terminal=pngcairo ;;
*.svg) terminal=svg ;;
*) echo "plot.sh: expected a name ending in .svg or .png, got $2" >&2; exit 2 ;;
esac
gnuplot <<GNUPLOT
set terminal $terminal size 1100,$((60 + 22 * rows)) font "sans,10"
set output "$2"
set title "$title" noenhanced
set ytics noenhanced
set yrange [-0.6:$rows-0.4]
set xrange [0:*]
set lmargin at screen 0.5
set grid xtics
set style fill solid 0.8 noborder
unset key
set arrow from 1, graph 0 to 1, graph 1 nohead lc rgb "#888888" dashtype 2
plot "$data" using (\$2 / 2):0:(\$2 / 2):(0.35):yticlabels(stringcolumn(1)) with boxxyerror lc rgb "#3465a4"
GNUPLOT
