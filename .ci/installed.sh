#!/usr/bin/env bash
# installed.sh: a C and a C++ program compile against the installed library, by find_package and by pkg-config, and run; each public header
# compiles alone in both languages; the programs run where neither an OpenCL loader nor CLBlast can be loaded.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install build --prefix "$work/prefix" >/dev/null
cp -r .ci/consumer "$work/consumer"
for header in "$work"/prefix/include/clformer/*.h; do
    case $header in */opencl.h) [ -f /usr/include/CL/cl.h ] || continue ;; esac
    printf '#include "%s"\ntypedef int not_empty;\n' "$header" >"$work/one.c"
    cp "$work/one.c" "$work/one.cc"
    ${CC:-cc} -std=c11 -Wall -Wextra -Wpedantic -Werror -c "$work/one.c" -o "$work/one.o"
    ${CXX:-c++} -std=c++17 -Wall -Wextra -Wpedantic -Werror -c "$work/one.cc" -o "$work/one.o"
done
cmake -S "$work/consumer" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" >/dev/null
cmake --build "$work/build" >/dev/null
"$work/build/consumer-c"
"$work/build/consumer-cpp"
export PKG_CONFIG_PATH=$work/prefix/lib/pkgconfig:$work/prefix/lib/$(cc -print-multiarch)/pkgconfig
flags=$(pkg-config --cflags --libs clformer)
libdir=$(pkg-config --variable=libdir clformer)
# shellcheck disable=SC2086
${CC:-cc} -std=c11 "$work/consumer/main.c" -o "$work/by-pkg-config-c" $flags -lm
# shellcheck disable=SC2086
${CXX:-c++} -std=c++17 "$work/consumer/main.cc" -o "$work/by-pkg-config-cpp" $flags
LD_LIBRARY_PATH=$libdir "$work/by-pkg-config-c"
LD_LIBRARY_PATH=$libdir "$work/by-pkg-config-cpp"
# without the module's libraries: the module can't be loaded, everything else works
rm -f "$work"/prefix/lib*/clformer/clformer-opencl.so "$work"/prefix/lib/*/clformer/clformer-opencl.so
"$work/prefix/bin/clformer-info" | grep -q 'opencl .*absent'
"$work/prefix/bin/clformer-generate" --prompt "Once" --tokens 3 --temperature 0 >/dev/null
