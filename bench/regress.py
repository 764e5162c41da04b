#!/usr/bin/env python3
"""regress.py DIR ROUNDS LIMIT: compares DIR/old.N.json and DIR/new.N.json, written by clformer-bench in turns."""
import json
import statistics
import sys


def figures(path):
    """Name to seconds."""
    with open(path) as f:
        data = json.load(f)
    out = {f"{r['op']} {r['dtype']} {r['text']}": r["median_s"] for r in data.get("ops", [])}
    model = data.get("model")
    if model:
        for name in ("prefill_tokens_per_s", "decode_tokens_per_s"):
            if model[name]:
                out[f"{model['path']} {name.split('_')[0]}"] = 1 / model[name]
        out[f"{model['path']} first token"] = model["first_token_s"]
    return out


def main():
    folder, rounds, limit = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    sides = {side: [figures(f"{folder}/{side}.{n + 1}.json") for n in range(rounds)] for side in ("old", "new")}
    worst, names = 0.0, sorted(set(sides["old"][0]) & set(sides["new"][0]))
    for name in names:
        old, new = (statistics.median(r[name] for r in sides[side]) for side in ("old", "new"))
        change = 100 * (new / old - 1)
        worst = max(worst, change)
        if abs(change) > 5:
            print(f"{change:+6.1f} %  {old * 1e3:10.3f} ms -> {new * 1e3:10.3f} ms  {name}")
    print(f"{len(names)} figures; the worst became {worst:.1f} % slower, {limit:g} % are allowed")
    sys.exit(worst > limit)


if __name__ == "__main__":
    main()
