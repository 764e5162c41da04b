#!/usr/bin/env python3
"""sparsity.py FILE.json: the tables of docs/sparsity.md, from `clformer-bench --sparsity --json FILE.json`: speed and size of one ternary
matrix in each form, by what is empty of it, and where the forms break even."""
import json
import sys

FORMS = ("bf16", "tq2_0", "t2", "t1", "tiles")


def break_even(rows, value):
    """The share from which tiles are better than the best dense form, between the measured points."""
    best = [min(value(r, f) for f in FORMS[:-1]) / value(r, "tiles") for r in rows]
    for a, b, x, y in zip(rows, rows[1:], best, best[1:]):
        if x < 1 <= y:
            return a["empty"] + (b["empty"] - a["empty"]) * (1 - x) / (y - x)
    return None if best[0] < 1 else rows[0]["empty"]


def table(rows, title, value, unit, form):
    print(f"\n{title}\n\n| empty | {' | '.join(FORMS)} | tiles ÷ t2 | tiles ÷ bf16 |")
    print("|---|" + "---|" * (len(FORMS) + 2))
    for r in rows:
        cells = " | ".join(form(value(r, f)) for f in FORMS)
        print(f"| {r['empty']:.0%} | {cells} | {value(r, 't2') / value(r, 'tiles'):.2f}× | {value(r, 'bf16') / value(r, 'tiles'):.1f}× |")
    at = break_even(rows, value)
    print(f"\n{unit}; tiles beat every dense form {'nowhere' if at is None else f'from {at:.0%} on'}.")


def main():
    with open(sys.argv[1]) as f:
        data = json.load(f)
    print(f"{data['backend']}, {data['threads']} threads")
    kinds = sorted({(r["of"], r["n"], r["k"]) for r in data["sparsity"]}, key=lambda x: (x[0] != "tiles", x[1]))
    for of, n, k in kinds:
        rows = [r for r in data["sparsity"] if (r["of"], r["n"], r["k"]) == (of, n, k)]
        what = "16 × 16 tiles" if of == "tiles" else "single values"
        table(rows, f"Decode, [{n}, {k}], by empty {what}", lambda r, f: r[f]["decode_s"] * 1e6, "µs", lambda v: f"{v:.1f}")
        if rows[0]["t2"]["prefill_s"]:
            table(rows, f"256 rows of x, [{n}, {k}], by empty {what}", lambda r, f: r[f]["prefill_s"] * 1e3, "ms", lambda v: f"{v:.2f}")
        table(rows, f"Size, [{n}, {k}], by empty {what}", lambda r, f: r[f]["bytes"] * 8 / (n * k), "bits a weight", lambda v: f"{v:.3f}")


if __name__ == "__main__":
    main()
