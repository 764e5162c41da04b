#!/usr/bin/env bash
# docs.sh: every public symbol is documented (Doxygen, warnings are errors), and every file that a document names is there.
set -euo pipefail
cd "$(dirname "$0")/.."

command -v doxygen >/dev/null || exit 77
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cat >"$out/Doxyfile" <<CONF
PROJECT_NAME = clformer
INPUT = include/clformer
OUTPUT_DIRECTORY = $out
QUIET = YES
WARN_AS_ERROR = FAIL_ON_WARNINGS
WARN_NO_PARAMDOC = NO
EXTRACT_ALL = NO
OPTIMIZE_OUTPUT_FOR_C = YES
GENERATE_LATEX = NO
HAVE_DOT = NO
MACRO_EXPANSION = YES
EXPAND_ONLY_PREDEF = YES
PREDEFINED = CLF_API= CLF_EXTERN= __GNUC__
CONF
doxygen "$out/Doxyfile"
bad=0
for page in README.md docs/*.md; do
    for link in $(grep -oE '\]\([^)#]+' "$page" | sed 's/](//' | grep -vE '^https?:' || true); do
        [ -e "$(dirname "$page")/$link" ] || { echo "docs: $page links to $link, which isn't there" >&2; bad=1; }
    done
done
exit $bad
