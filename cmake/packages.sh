#!/usr/bin/env bash
# packages.sh [--optional] PURPOSE…: installs the Debian or Ubuntu packages of packages.list that are missing, asking sudo only if there
# are any. With --optional a package that can't be had is reported and left out.
set -euo pipefail

optional=false
if [ "${1:-}" = --optional ]; then optional=true; shift; fi

missing=()
for name in $(for purpose in "$@"; do sed -n "s/^$purpose: //p" "$(dirname "$0")/packages.list"; done); do
    dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null | grep -qx installed || missing+=("$name")
done
[ ${#missing[@]} -gt 0 ] || exit 0
if ! command -v apt-get >/dev/null; then
    echo "packages.sh: not Debian or Ubuntu: please install what corresponds to: ${missing[*]}" >&2
    $optional && exit 0 || exit 1
fi

sudo=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "packages.sh: as root, please: apt-get install ${missing[*]}" >&2; exit 1; }
    sudo=(sudo)
fi
echo "installing ${missing[*]}" >&2
"${sudo[@]}" apt-get update -qq
install=("${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends)
if $optional; then
    for name in "${missing[@]}"; do
        "${install[@]}" "$name" >/dev/null || echo "packages.sh: $name can't be had, going on without it" >&2
    done
else
    "${install[@]}" "${missing[@]}" >/dev/null
fi
