#!/usr/bin/env bash
# driver.sh: the path of the compiler of NVIDIA's driver, a library that turns OpenCL C into PTX and needs no GPU: the one that is installed, or Debian's
# package of it (non-free), unpacked into the cache. Exits 77 where neither can be had.
set -euo pipefail

installed=$(PATH=$PATH:/sbin ldconfig -p | sed -n 's/.*libnvidia-nvvm\.so\.4 .*=> //p' | head -1)
if [ -n "$installed" ]; then echo "$installed"; exit; fi

cache=${XDG_CACHE_HOME:-$HOME/.cache}/clformer/nvidia-driver
found() { find "$cache/usr" -type f -name 'libnvidia-nvvm.so.*' 2>/dev/null | head -1; }
if [ -z "$(found)" ]; then
    keys=/usr/share/keyrings/debian-archive-keyring.gpg
    command -v apt-get >/dev/null && [ -e $keys ] || exit 77
    mkdir -p "$cache"/{lists,archives}/partial
    cd "$cache"
    echo "deb [signed-by=$keys] http://deb.debian.org/debian bookworm non-free" >sources.list
    apt=(-qq -o Dir::Etc::sourcelist="$cache/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$cache/lists" -o Dir::Cache="$cache"
        -o APT::Sandbox::User=)
    { apt-get "${apt[@]}" update && apt-get "${apt[@]}" download libnvidia-nvvm4 && dpkg -x libnvidia-nvvm4_*.deb . && rm -rf lists ./*.deb; } >&2 || exit 77
fi
found
