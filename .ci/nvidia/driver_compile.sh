# driver_compile.sh, sourced: functions that compile with NVIDIA's driver into $work; ends the script with 77 where there is none.
export driver_library
driver_library=$(.ci/nvidia/driver.sh) || { echo "skipped: no compiler of NVIDIA's driver"; exit 77; }
cc -O1 -Wall -Wextra -Werror .ci/nvidia/driver_compiler.c -ldl -o "$work/driver_compiler"
echo "$(basename "$driver_library")"

# FILE...: one text, with what the files include in place of the lines that say so, as cl/program.c has it
program_text() {
    awk '/^#include "/ { split($0, part, "\""); while ((getline line < ("cl/" part[2])) > 0) print line; close("cl/" part[2]); next } { print }' "$@"
}
# ARCH OPTIONS...: PTX of the text on standard input, with the options of cl/device.c and those that NVIDIA's OpenCL adds
compile_text() {
    "$work/driver_compiler" "$driver_library" "-cl-std=CL1.2 -cl-fp32-correctly-rounded-divide-sqrt -cl-nv-cstd=CL1.2 -nv-m64 -cl-nv-arch $*"
}
export -f program_text compile_text
