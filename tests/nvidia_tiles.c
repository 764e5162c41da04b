/* nvidia_tiles.c: the arithmetic of tensor-core tiles, on the host, from the PTX manual: where chunks lie, what
 * ldmatrix and wgmma are told, and the PTX that is made for sm_90a. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../cl/nvidia/nvidia.h"

/* tile.h as C */
typedef unsigned int tile_uint;
typedef unsigned short tile_ushort;
typedef unsigned long long tile_ulong;
#define uint    tile_uint
#define ushort  tile_ushort
#define ulong   tile_ulong
#define WARP_FN static inline __attribute__((unused))
#define UNROLL
#define __global
static inline tile_uint pack(float low, float high) {
    return (tile_uint)low | (tile_uint)high << 16;
}
#include "../cl/nvidia/tile.h"

/* Swizzles of 128 bytes, as the manual has them: bits 4 to 6 of an address become their exclusive or with bits 7 to 9.
 */
static uint swizzle(uint address) {
    return address ^ (address >> 7 & 7) << 4;
}

enum { ROWS = 64, WIDTH = 128, TILE = 3 * 1024 };

/* Where TILE_LOAD puts column `column` of row r. */
static uint place(int r, int column) {
    return tile_chunk(TILE, r, column / 8 % 8) + (uint)(column / 64 * PAGE_BYTES(ROWS) + column % 8 * 2);
}

static void test_chunks(void **state) {
    static int taken[TILE_BYTES(ROWS, WIDTH) / 2];
    (void)state;
    memset(taken, 0, sizeof taken);
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < WIDTH; c++) {
            const uint at = place(r, c) - TILE;
            assert_true(at < sizeof taken / sizeof *taken * 2 && at % 2 == 0);
            assert_int_equal(taken[at / 2]++, 0); /* one to one */
            assert_int_equal(place(r, c), swizzle((uint)(TILE + c / 64 * PAGE_BYTES(ROWS) + r * 128 + c % 64 * 2)));
        }
}

/* Lane l gives the address of row l & 7 of matrix l >> 3: of A {rows, rows + 8} × {k, k + 8}, k last; of B by rows
 * {n, n + 8} × {k, k + 8}, k first. */
static void test_fragments(void **state) {
    (void)state;
    for (int i = 0; i < ROWS / 16; i++)
        for (int j = 0; j < WIDTH / 16; j++)
            for (int l = 0; l < 32; l++) {
                const int a_row = l / 8 % 2 * 8 + l % 8, b_row = l / 16 * 8 + l % 8;
                assert_int_equal(fragment(TILE, ROWS, i, j, operand_a(l)), place(16 * i + a_row, 16 * j + l / 16 * 8));
                assert_int_equal(fragment(TILE, ROWS, i, j, operand_b(l)),
                                 place(16 * i + b_row, 16 * j + l / 8 % 2 * 8));
            }
}

/* Panels: the same, of rows of four chunks. */
static void test_panels(void **state) {
    static int taken[ROWS * 4];
    (void)state;
    memset(taken, 0, sizeof taken);
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < 4; c++) {
            const uint at = panel_chunk(TILE, r, c) - TILE;
            assert_true(at % 16 == 0 && at / 16 < sizeof taken / sizeof *taken);
            assert_int_equal(taken[at / 16]++, 0);
            for (int other = r / 8 * 8; other < r; other++) /* eight rows of a chunk: eight banks of 16 bytes */
                assert_int_not_equal((panel_chunk(TILE, other, c) & 0x70), (panel_chunk(TILE, r, c) & 0x70));
        }
    for (int i = 0; i < ROWS / 16; i++)
        for (int half = 0; half < 2; half++)
            for (int l = 0; l < 32; l++) {
                const int a_row = l / 8 % 2 * 8 + l % 8, b_row = l / 16 * 8 + l % 8;
                assert_int_equal(panel_fragment(TILE, i, half, panel_a(l)),
                                 panel_chunk(TILE, 16 * i + a_row, 2 * half + l / 16));
                assert_int_equal(panel_fragment(TILE, i, half, panel_b(l)),
                                 panel_chunk(TILE, 16 * i + b_row, 2 * half + l / 8 % 2));
            }
}

static uint field(ulong descriptor, int first, int bits) {
    return (uint)(descriptor >> first & ((1u << bits) - 1));
}

static void test_descriptor_fields(void **state) {
    (void)state;
    const ulong d = descriptor(0x35400, 8192, 1024);
    assert_int_equal(field(d, 0, 14), 0x35400 >> 4);
    assert_int_equal(field(d, 16, 14), 8192 >> 4);
    assert_int_equal(field(d, 32, 14), 1024 >> 4);
    assert_int_equal(field(d, 49, 3), 0); /* tiles begin at multiples of 1024 */
    assert_int_equal(field(d, 62, 2), 1); /* swizzle of 128 bytes */
    assert_int_equal(d, (ulong)1 << 62 | (ulong)64 << 32 | (ulong)512 << 16 | 0x3540);
}

/* Element (k, n) of B in its canonical layout: n in eights of rows, `stride` apart, k along them; or transposed, n
 * along rows, 64 of them a page, `leading` apart, k in eights of rows. */
static uint element(ulong d, int k, int n, bool transposed) {
    const uint start = field(d, 0, 14) << 4, leading = field(d, 16, 14) << 4, stride = field(d, 32, 14) << 4;
    const uint u = (uint)k, v = (uint)n;
    return swizzle(transposed ? start + v / 64 * leading + v % 64 * 2 + u / 8 * stride + u % 8 * 128
                              : start + v / 8 * stride + v % 8 * 128 + u * 2);
}

static void test_descriptors(void **state) {
    (void)state;
    for (int k = 0; k < 16; k++) {
        for (int j = 0; j < WIDTH / 16; j++) /* B[k][n] = row n, column 16j + k */
            for (int n = 0; n < ROWS; n++)
                assert_int_equal(element(operand_rows(TILE, ROWS, j), k, n, false), place(n, 16 * j + k));
        for (int i = 0; i < ROWS / 16; i++) /* B[k][n] = row 16i + k, column n */
            for (int n = 0; n < WIDTH; n++)
                assert_int_equal(element(operand_columns(TILE, ROWS, i), k, n, true), place(16 * i + k, n));
    }
}

static void check_ptx(const char *ptx, const char *expected) {
    char *got = clf_nvidia_ptx_90a(ptx);
    if (expected)
        assert_string_equal(got, expected);
    else
        assert_null(got);
    free(got);
}

static void test_ptx(void **state) {
    (void)state;
    check_ptx(".version 8.3\n.target sm_90, texmode_independent\n\t//@wgmma.fence;\nret;//@a\n",
              ".version 8.3\n.target sm_90a, texmode_independent\n\twgmma.fence;\nret;a\n");
    check_ptx(".target sm_90a\n//@a", ".target sm_90a\na");
    check_ptx(".target sm_90\n//@", ".target sm_90a\n");
    check_ptx(".target sm_86\n//@a", NULL);
    check_ptx(".target sm_90\nno marks", NULL);
    check_ptx("\x7f"
              "ELF",
              NULL);
    check_ptx("", NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks),      cmocka_unit_test(test_fragments),
        cmocka_unit_test(test_panels),      cmocka_unit_test(test_descriptor_fields),
        cmocka_unit_test(test_descriptors), cmocka_unit_test(test_ptx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
