/* driver_compiler.c: OpenCL C to PTX by the compiler of NVIDIA's driver, without a GPU. driver.sh tells where that is;
 * its OpenCL calls it so, though no header declares it. usage: driver_compiler LIBRARY OPTIONS <source >ptx */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int compile_fn(const char **sources, unsigned n, const size_t *lengths, const char *options, char **log,
                       char **ptx);

int main(int argc, char **argv) {
    static char text[1 << 20];
    const char *source = text;
    char *log = NULL, *ptx = NULL;
    if (argc != 3) return fputs("usage: driver_compiler LIBRARY OPTIONS <source >ptx\n", stderr), 2;
    void *library = dlopen(argv[1], RTLD_NOW);
    void *symbol = library ? dlsym(library, "NvCliCompileProgram") : NULL;
    if (!symbol) return fprintf(stderr, "%s\n", dlerror()), 2;
    compile_fn *compile;
    memcpy(&compile, &symbol, sizeof compile);
    const size_t length = fread(text, 1, sizeof text, stdin);
    if (length == sizeof text) return fputs("the source is longer than 1 MiB\n", stderr), 2;
    const int status = compile(&source, 1, &length, argv[2], &log, &ptx);
    if (status || !ptx) return fprintf(stderr, "%s\n", log ? log : "no log"), 1;
    return fputs(ptx, stdout) < 0;
}
