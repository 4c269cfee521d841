/* Vector code for the inner loops in which CP2K spends most of its time: putting products of Gaussians on a grid, and integrating
   a grid over them. Debian compiles CP2K for any x86-64 processor, so these loops use one number at a time there.

   Loaded with LD_PRELOAD into that one build of cp2k.psmp (see vector_kernels.py, which checks the program), it replaces four loops
   of the branch for polynomials of degree 4 (products of two d functions, as in every DZVP basis) by calls of the functions below. What
   is summed is the same; the order of the sums differs in the last bits. */
#define _GNU_SOURCE
#include <immintrin.h>
#include <link.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HIDDEN __attribute__((visibility("hidden"), used))
#define TERMS 5

#ifdef __AVX512F__
#define WIDTH 8
typedef __m512d V;
typedef __mmask8 M;
#define MASK(n) ((M)((n) >= 8 ? 0xff : (1u << (n)) - 1))
#define ZERO() _mm512_setzero_pd()
#define SET(x) _mm512_set1_pd(x)
#define LOAD(m, p) _mm512_maskz_loadu_pd(m, p)
#define STORE(m, p, x) _mm512_mask_storeu_pd(p, m, x)
#define ADD(a, b) _mm512_add_pd(a, b)
#define MUL(a, b) _mm512_mul_pd(a, b)
#define FMA(a, b, c) _mm512_fmadd_pd(a, b, c)
#define HALVES(a) _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1))
#else
#define WIDTH 4
typedef __m256d V;
typedef __m256i M;
#define MASK(n) _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3))
#define ZERO() _mm256_setzero_pd()
#define SET(x) _mm256_set1_pd(x)
#define LOAD(m, p) _mm256_maskload_pd(p, m)
#define STORE(m, p, x) _mm256_maskstore_pd(p, m, x)
#define ADD(a, b) _mm256_add_pd(a, b)
#define MUL(a, b) _mm256_mul_pd(a, b)
#define FMA(a, b, c) _mm256_fmadd_pd(a, b, c)
#define HALVES(a) (a)
#endif

/* the four sums over the elements of a, b, c and d */
static inline __attribute__((always_inline)) __m256d sums(V a, V b, V c, V d) {
  const __m256d ab = _mm256_hadd_pd(HALVES(a), HALVES(b)), cd = _mm256_hadd_pd(HALVES(c), HALVES(d));
  return _mm256_add_pd(_mm256_permute2f128_pd(ab, cd, 0x21), _mm256_blend_pd(ab, cd, 0xC));
}

/* cx[l][k] += sum over i of pol[l][i] * line_k[i]; four grid lines of n points, o = distance of lines 0, 2 and 3 from line 1 */
HIDDEN void vector_integrate(double *cx, const double *pol, long stride, const double *g, long n, const long *o) {
  V a[TERMS][4];
  const double *g0 = g + o[0], *g2 = g + o[1], *g3 = g + o[2];
#pragma GCC unroll 5
  for (int l = 0; l < TERMS; l++)
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) a[l][k] = ZERO();
  for (long i = 0; i < n; i += WIDTH) {
    const M m = MASK(n - i);
    const V v0 = LOAD(m, g0 + i), v1 = LOAD(m, g + i), v2 = LOAD(m, g2 + i), v3 = LOAD(m, g3 + i);
#pragma GCC unroll 5
    for (int l = 0; l < TERMS; l++) {
      const V p = LOAD(m, pol + l * stride + i);
      a[l][0] = FMA(p, v0, a[l][0]);
      a[l][1] = FMA(p, v1, a[l][1]);
      a[l][2] = FMA(p, v2, a[l][2]);
      a[l][3] = FMA(p, v3, a[l][3]);
    }
  }
#pragma GCC unroll 5
  for (int l = 0; l < TERMS; l++)
    _mm256_storeu_pd(cx + 4 * l, _mm256_add_pd(_mm256_loadu_pd(cx + 4 * l), sums(a[l][0], a[l][1], a[l][2], a[l][3])));
}

/* line_k[i] += sum over l of pol[l][i] * cx[l][k] */
HIDDEN void vector_collocate(const double *cx, const double *pol, long stride, double *g, long n, const long *o) {
  V c[TERMS][4];
  double *g0 = g + o[0], *g2 = g + o[1], *g3 = g + o[2];
#pragma GCC unroll 5
  for (int l = 0; l < TERMS; l++)
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) c[l][k] = SET(cx[4 * l + k]);
  for (long i = 0; i < n; i += WIDTH) {
    const M m = MASK(n - i);
    V p = LOAD(m, pol + i);
    V r0 = MUL(p, c[0][0]), r1 = MUL(p, c[0][1]), r2 = MUL(p, c[0][2]), r3 = MUL(p, c[0][3]);
#pragma GCC unroll 4
    for (int l = 1; l < TERMS; l++) {
      p = LOAD(m, pol + l * stride + i);
      r0 = FMA(p, c[l][0], r0);
      r1 = FMA(p, c[l][1], r1);
      r2 = FMA(p, c[l][2], r2);
      r3 = FMA(p, c[l][3], r3);
    }
    /* one after the other: in a small cell two of the lines can be one */
    STORE(m, g0 + i, ADD(LOAD(m, g0 + i), r0));
    STORE(m, g + i, ADD(LOAD(m, g + i), r1));
    STORE(m, g2 + i, ADD(LOAD(m, g2 + i), r2));
    STORE(m, g3 + i, ADD(LOAD(m, g3 + i), r3));
  }
}

/* cxy[y][x][0..1] += cx[x][0..1] * p1[y] + cx[x][2..3] * p2[y] for x + y < TERMS */
HIDDEN void vector_cx_to_cxy(double *cxy, const double *cx, const double *p1, const double *p2, long stride) {
#pragma GCC unroll 5
  for (int y = 0; y < TERMS; y++) {
    const __m128d q1 = _mm_set1_pd(p1[y * stride]), q2 = _mm_set1_pd(p2[y * stride]);
#pragma GCC unroll 5
    for (int x = 0; x < TERMS - y; x++) {
      double *c = cxy + 2 * (TERMS * y + x);
      _mm_storeu_pd(c, _mm_fmadd_pd(_mm_loadu_pd(cx + 4 * x + 2), q2, _mm_fmadd_pd(_mm_loadu_pd(cx + 4 * x), q1, _mm_loadu_pd(c))));
    }
  }
}

/* cx[x][0..1] += cxy[y][x] * p1[y] and cx[x][2..3] += cxy[y][x] * p2[y] for x + y < TERMS */
HIDDEN void vector_cxy_to_cx(const double *cxy, double *cx, const double *p1, const double *p2, long stride) {
#pragma GCC unroll 5
  for (int x = 0; x < TERMS; x++) {
    __m128d a = _mm_loadu_pd(cx + 4 * x), b = _mm_loadu_pd(cx + 4 * x + 2);
#pragma GCC unroll 5
    for (int y = 0; y < TERMS - x; y++) {
      const __m128d c = _mm_loadu_pd(cxy + 2 * (TERMS * y + x));
      a = _mm_fmadd_pd(c, _mm_set1_pd(p1[y * stride]), a);
      b = _mm_fmadd_pd(c, _mm_set1_pd(p2[y * stride]), b);
    }
    _mm_storeu_pd(cx + 4 * x, a);
    _mm_storeu_pd(cx + 4 * x + 2, b);
  }
}

/* Each entry is jumped to from the head of a loop and jumps to what follows the loop: it keeps every register that is read after it.
   The operands lie where the compiler of that build put them. */
#define ENTRY(name, call_it, leave_to)                                                                                             \
  HIDDEN uintptr_t leave_to;                                                                                                       \
  void name(void);                                                                                                                 \
  __asm__(".text\n.globl " #name "\n.hidden " #name "\n" #name ":\n"                                                               \
          "lea -512(%rsp),%rsp\n"                                                                                                  \
          "mov %rcx,0(%rsp)\nmov %rsi,8(%rsp)\nmov %r8,16(%rsp)\nmov %r9,24(%rsp)\nmov %r10,32(%rsp)\nmov %rbx,40(%rsp)\n"          \
          "mov %rax,48(%rsp)\nmov %rdx,56(%rsp)\n"                                                                                 \
          "movups %xmm6,64(%rsp)\nmovups %xmm7,80(%rsp)\nmovups %xmm8,96(%rsp)\nmovups %xmm9,112(%rsp)\n"                           \
          "movups %xmm10,128(%rsp)\nmovups %xmm11,144(%rsp)\nmovups %xmm12,160(%rsp)\nmovups %xmm13,176(%rsp)\n"                    \
          "movups %xmm14,192(%rsp)\nmovups %xmm15,208(%rsp)\n"                                                                     \
          call_it                                                                                                                  \
          "movups 64(%rsp),%xmm6\nmovups 80(%rsp),%xmm7\nmovups 96(%rsp),%xmm8\nmovups 112(%rsp),%xmm9\n"                           \
          "movups 128(%rsp),%xmm10\nmovups 144(%rsp),%xmm11\nmovups 160(%rsp),%xmm12\nmovups 176(%rsp),%xmm13\n"                    \
          "movups 192(%rsp),%xmm14\nmovups 208(%rsp),%xmm15\n"                                                                     \
          "mov 0(%rsp),%rcx\nmov 8(%rsp),%rsi\nmov 16(%rsp),%r8\nmov 24(%rsp),%r9\nmov 32(%rsp),%r10\nmov 40(%rsp),%rbx\n"          \
          "mov 48(%rsp),%rax\nmov 56(%rsp),%rdx\n"                                                                                 \
          "lea 512(%rsp),%rsp\n"                                                                                                   \
          "jmp *" #leave_to "(%rip)\n")

#define ALIGNED_CALL(function) "mov %rsp,%rbx\nand $-64,%rsp\ncall " #function "\nmov %rbx,%rsp\n"

#define LINES(stride, end, o0, o2, o3, function)                                                                                   \
  "mov " o0 "(%rbp),%rax\nmov %rax,224(%rsp)\nmov " o2 "(%rbp),%rax\nmov %rax,232(%rsp)\n"                                          \
  "mov " o3 "(%rbp),%rax\nmov %rax,240(%rsp)\n"                                                                                    \
  "movslq %edx,%rdx\nmovslq " end "(%rbp),%rbx\nlea (%r15,%rdx,8),%rsi\nsub %rdx,%rbx\n"                                            \
  "mov " stride ",%rdx\nmov %rcx,%rdi\nmov %r11,%rcx\nmov %rbx,%r8\nlea 224(%rsp),%r9\n" ALIGNED_CALL(function)

#define ROWS(rows, polynomials, one, other, stride, function)                                                                      \
  "mov " rows ",%rdi\nmov " polynomials "(%rbp),%r11\nlea (%r11," one ",8),%rdx\nmov " other "(%rbp),%rax\n"                        \
  "lea (%r11,%rax,8),%rax\nmov " stride ",%r8\nmov %rcx,%rsi\nmov %rax,%rcx\n" ALIGNED_CALL(function)

ENTRY(enter_integrate, LINES("%r9", "-0x198", "-0x270", "-0x278", "-0x288", vector_integrate), leave_integrate);
ENTRY(enter_collocate, LINES("%r8", "-0xe8", "-0x190", "-0x178", "-0x208", vector_collocate), leave_collocate);
ENTRY(enter_cx_to_cxy, ROWS("%r11", "-0x198", "%rdx", "-0xd8", "%r9", vector_cx_to_cxy), leave_cx_to_cxy);
ENTRY(enter_cxy_to_cx, ROWS("-0x178(%rbp)", "-0x208", "%rsi", "-0xe8", "%r8", vector_cxy_to_cx), leave_cxy_to_cx);

static void replace(uintptr_t base, uintptr_t at, const char *seen, size_t n, void (*entry)(void), uintptr_t *leave, uintptr_t after) {
  const uintptr_t address = base + at, page = address & ~(uintptr_t)4095;
  uint8_t jump[14] = {0xff, 0x25};
  if (memcmp((void *)address, seen, n) != 0 || mprotect((void *)page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC) != 0) {
    fputs("vector kernels: they do not fit this program, or it may not be changed\n", stderr);
    exit(3);
  }
  *leave = base + after;
  memcpy(jump + 6, &entry, 8);
  memcpy((void *)address, jump, sizeof jump);
  mprotect((void *)page, 8192, PROT_READ | PROT_EXEC);
}

static int first(struct dl_phdr_info *info, size_t size, void *base) {
  (void)size;
  *(uintptr_t *)base = info->dlpi_addr;
  return 1;
}

#define REPLACE(at, seen, entry, leave, after) replace(base, at, seen, sizeof seen - 1, entry, &leave, after)

__attribute__((constructor)) static void load(void) {
  /* CP2K's MPI starts programs of its own, which load this too */
  char program[4096] = {0};
  const char *name;
  if (readlink("/proc/self/exe", program, sizeof program - 1) < 0 || !(name = strrchr(program, '/')) || strncmp(name, "/cp2k", 5) != 0) return;
  uintptr_t base = 0;
  dl_iterate_phdr(first, &base);
  REPLACE(0x1cb678d, "\x48\x63\xfa\x89\x95\x50\xfd\xff\xff", enter_integrate, leave_integrate, 0x1cb6850);
  REPLACE(0x1cbd01d, "\x48\x63\xfa\x89\x95\xd8\xfd\xff\xff", enter_collocate, leave_collocate, 0x1cbd0f5);
  REPLACE(0x1cb689b, "\x48\x63\xf7\x49\x0f\xaf\xf1", enter_cx_to_cxy, leave_cx_to_cxy, 0x1cb5595);
  REPLACE(0x1cbce42, "\x48\x63\xbd\xb8\xfe\xff\xff", enter_cxy_to_cx, leave_cxy_to_cx, 0x1cbceef);
  fputs("vector kernels: in use\n", stderr);
}
