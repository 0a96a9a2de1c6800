// The kernels of a packed BERT: all tokens of a batch lie in one sequence without padding. f16 in memory, f32 in
// registers; from sm_75 on. build.sh turns this into bert.ptx, which is committed, so that no build needs nvcc.
// What each kernel asks of its arguments stands in src/model/gpu/kernels.rs, beside its launch.
#include <cuda_fp16.h>
#include <stdint.h>
// Threads of a block; of the kernels that work row by row each warp takes one.
#define THREADS 128
#define ROWS 4
// Groups of 8 numbers of a row that one lane holds: rows have 1,024 numbers at most.
#define GROUPS 4

__device__ __forceinline__ float warp_sum(float v) {
  #pragma unroll
  for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  return v;
}

__device__ __forceinline__ void add8(float (&v)[8], uint4 group) {
  const half2* pairs = (const half2*)&group;
  #pragma unroll
  for (int k = 0; k < 4; k++) {
    float2 pair = __half22float2(pairs[k]);
    v[2 * k] += pair.x;
    v[2 * k + 1] += pair.y;
  }
}

// Writes the normalised row that a warp holds, lane l the groups l, l + 32, …
__device__ __forceinline__ void write_norm(
    const float (&v)[GROUPS][8], int groups, const uint4* gain, const uint4* bias, uint4* out, float eps) {
  const int lane = threadIdx.x & 31;
  float sum = 0.f, squares = 0.f;
  #pragma unroll
  for (int i = 0; i < GROUPS; i++)
    if (lane + 32 * i < groups)
      #pragma unroll
      for (int k = 0; k < 8; k++) sum += v[i][k];
  const float mean = warp_sum(sum) / (8 * groups);
  #pragma unroll
  for (int i = 0; i < GROUPS; i++)
    if (lane + 32 * i < groups)
      #pragma unroll
      for (int k = 0; k < 8; k++) squares += (v[i][k] - mean) * (v[i][k] - mean);
  const float scale = rsqrtf(warp_sum(squares) / (8 * groups) + eps);
  #pragma unroll
  for (int i = 0; i < GROUPS; i++)
    if (lane + 32 * i < groups) {
      const int c = lane + 32 * i;
      float g[8] = {}, b[8] = {};
      add8(g, gain[c]);
      add8(b, bias[c]);
      uint4 group;
      half2* pairs = (half2*)&group;
      #pragma unroll
      for (int k = 0; k < 4; k++)
        pairs[k] = __floats2half2_rn((v[i][2 * k] - mean) * scale * g[2 * k] + b[2 * k],
                                     (v[i][2 * k + 1] - mean) * scale * g[2 * k + 1] + b[2 * k + 1]);
      out[c] = group;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) embed_norm(
    const uint32_t* ids, const uint32_t* types, const uint32_t* places, const uint4* words, const uint4* positions,
    const uint4* kinds, const uint4* gain, const uint4* bias, uint4* out, int rows, int groups, float eps) {
  const long row = (long)blockIdx.x * ROWS + (threadIdx.x >> 5);
  if (row >= rows) return;
  const uint4* a = words + (long)ids[row] * groups;
  const uint4* b = positions + (long)places[row] * groups;
  const uint4* c = kinds + (long)types[row] * groups;
  float v[GROUPS][8] = {};
  #pragma unroll
  for (int i = 0; i < GROUPS; i++) {
    const int at = (threadIdx.x & 31) + 32 * i;
    if (at < groups) {
      add8(v[i], a[at]);
      add8(v[i], b[at]);
      add8(v[i], c[at]);
    }
  }
  write_norm(v, groups, gain, bias, out + row * groups, eps);
}

extern "C" __global__ void __launch_bounds__(THREADS) bias_residual_norm(
    const uint4* x, const uint4* x_bias, const uint4* around, const uint4* gain, const uint4* bias, uint4* out,
    int rows, int groups, float eps) {
  const long row = (long)blockIdx.x * ROWS + (threadIdx.x >> 5);
  if (row >= rows) return;
  float v[GROUPS][8] = {};
  #pragma unroll
  for (int i = 0; i < GROUPS; i++) {
    const int at = (threadIdx.x & 31) + 32 * i;
    if (at < groups) {
      add8(v[i], x[row * groups + at]);
      add8(v[i], around[row * groups + at]);
      add8(v[i], x_bias[at]);
    }
  }
  write_norm(v, groups, gain, bias, out + row * groups, eps);
}

// c += a b for a of 16 × 16, b of 16 × 8; which number lies in which lane stands in the PTX manual.
__device__ __forceinline__ void mma(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(b0));
  asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[2]), "r"(a[3]), "r"(b1));
#endif
}

// Four 8 × 8 matrices from shared memory; lane l names row l % 8 of matrix l / 8.
__device__ __forceinline__ void load4(uint32_t (&d)[4], const half* row) {
  const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(at) : "memory");
}

__device__ __forceinline__ void load4_turned(uint32_t (&d)[4], const half* row) {
  const uint32_t at = (uint32_t)__cvta_generic_to_shared(row);
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3]) : "r"(at) : "memory");
}

__device__ __forceinline__ uint32_t pack(float a, float b) {
  half2 pair = __floats2half2_rn(a, b);
  return *(uint32_t*)&pair;
}

// One step of a warp's attention, over at most 64 keys of which `left` are real: o, the largest scores and the sums go on.
template <int D>
__device__ __forceinline__ void attend_64_keys(
    const uint32_t (&q)[D / 16][4], const half* keys, const half* values, int left, float scale, float (&o)[D / 8][4],
    float (&most)[2], float (&sum)[2]) {
  constexpr int LD = D + 8;
  const int lane = threadIdx.x & 31, matrix = lane >> 3, r = lane & 7;
  float s[8][4];
  #pragma unroll
  for (int two = 0; two < 4; two++) {
    #pragma unroll
    for (int i = 0; i < 4; i++) s[2 * two][i] = s[2 * two + 1][i] = 0.f;
    if (two * 16 < left)
      #pragma unroll
      for (int k = 0; k < D / 16; k++) {
        uint32_t b[4];
        load4(b, keys + (two * 16 + (matrix >> 1) * 8 + r) * LD + k * 16 + (matrix & 1) * 8);
        mma(s[2 * two], q[k], b[0], b[1]);
        mma(s[2 * two + 1], q[k], b[2], b[3]);
      }
  }
  // Four lanes share two rows: numbers 0 and 1 of a tile lie in row lane / 4, 2 and 3 in the one 8 below.
  #pragma unroll
  for (int pair = 0; pair < 2; pair++) {
    float top = -INFINITY, part = 0.f;
    #pragma unroll
    for (int tile = 0; tile < 8; tile++)
      #pragma unroll
      for (int i = 0; i < 2; i++) {
        float& one = s[tile][2 * pair + i];
        if (tile * 8 + (lane & 3) * 2 + i >= left) one = -INFINITY;
        top = fmaxf(top, one);
      }
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2));
    const float now = fmaxf(most[pair], top), fade = exp2f((most[pair] - now) * scale);
    most[pair] = now;
    #pragma unroll
    for (int tile = 0; tile < 8; tile++)
      #pragma unroll
      for (int i = 0; i < 2; i++) {
        float& one = s[tile][2 * pair + i];
        one = exp2f((one - now) * scale);
        part += one;
      }
    part += __shfl_xor_sync(0xffffffffu, part, 1);
    part += __shfl_xor_sync(0xffffffffu, part, 2);
    sum[pair] = sum[pair] * fade + part;
    #pragma unroll
    for (int tile = 0; tile < D / 8; tile++) {
      o[tile][2 * pair] *= fade;
      o[tile][2 * pair + 1] *= fade;
    }
  }
  #pragma unroll
  for (int two = 0; two < 4; two++)
    if (two * 16 < left) {
      const uint32_t p[4] = {pack(s[2 * two][0], s[2 * two][1]), pack(s[2 * two][2], s[2 * two][3]),
                             pack(s[2 * two + 1][0], s[2 * two + 1][1]), pack(s[2 * two + 1][2], s[2 * two + 1][3])};
      #pragma unroll
      for (int tile = 0; tile < D / 8; tile += 2) {
        uint32_t b[4];
        load4_turned(b, values + (two * 16 + (matrix & 1) * 8 + r) * LD + (tile + (matrix >> 1)) * 8);
        mma(o[tile], p, b[0], b[1]);
        mma(o[tile + 1], p, b[2], b[3]);
      }
    }
}

// softmax(q k^T scale) v within each text: a warp for 16 queries of one head, a block for 16 · WARPS of them, which share
// as many keys and values at a time in shared memory. qkv is [rows, 3, heads, D]. Queries, scores, sums and the output
// stay in registers; scale is the usual one times log2(e), since the powers are those of two.
template <int D, int WARPS>
__device__ __forceinline__ void attend(const half* qkv, const uint32_t* bounds, half* out, int heads, float scale) {
  constexpr int LD = D + 8;  // rows shifted by 16 bytes, so that 8 of them lie in different banks
  constexpr int TILE = 16 * WARPS, FETCHES = D / 16;
  const int head = blockIdx.y, q0 = blockIdx.x * TILE;
  const long first = bounds[blockIdx.z];
  const int length = (int)(bounds[blockIdx.z + 1] - first);
  if (q0 >= length) return;
  const long row = 3L * heads * D;
  const half* base = qkv + first * row + head * D;
  __shared__ __align__(16) half keys[TILE * LD];
  __shared__ __align__(16) half values[TILE * LD];
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int query = q0 + warp * 16 + (lane >> 2);  // the lane's first; its second is 8 below
  const bool live = q0 + warp * 16 < length;       // a warp without a query only helps to fetch
  uint32_t q[D / 16][4];
  #pragma unroll
  for (int k = 0; k < D / 16; k++)
    #pragma unroll
    for (int i = 0; i < 4; i++) {
      const int line = query + (i & 1) * 8;
      q[k][i] = line < length ? *(const uint32_t*)(base + line * row + k * 16 + (i >> 1) * 8 + (lane & 3) * 2) : 0;
    }
  float o[D / 8][4] = {};
  float most[2] = {-INFINITY, -INFINITY}, sum[2] = {0.f, 0.f};
  for (int k0 = 0; k0 < length; k0 += TILE) {
    uint4 key[FETCHES], value[FETCHES];
    #pragma unroll
    for (int i = 0; i < FETCHES; i++) {
      const int at = threadIdx.x + i * 32 * WARPS, line = k0 + at / (D / 8), c = at % (D / 8) * 8;
      key[i] = value[i] = make_uint4(0, 0, 0, 0);
      if (line < length) {
        key[i] = *(const uint4*)(base + line * row + heads * D + c);
        value[i] = *(const uint4*)(base + line * row + 2 * heads * D + c);
      }
    }
    if (k0) __syncthreads();
    #pragma unroll
    for (int i = 0; i < FETCHES; i++) {
      const int at = threadIdx.x + i * 32 * WARPS, to = at / (D / 8) * LD + at % (D / 8) * 8;
      *(uint4*)(keys + to) = key[i];
      *(uint4*)(values + to) = value[i];
    }
    __syncthreads();
    if (!live) continue;
    #pragma unroll 1
    for (int part = 0; part < TILE && k0 + part < length; part += 64)
      attend_64_keys<D>(q, keys + part * LD, values + part * LD, length - k0 - part, scale, o, most, sum);
  }
  if (!live) return;
  #pragma unroll
  for (int pair = 0; pair < 2; pair++) {
    const int line = query + pair * 8;
    if (line >= length) continue;
    const float share = 1.f / sum[pair];
    half2* to = (half2*)(out + (first + line) * heads * D + head * D) + (lane & 3);
    #pragma unroll
    for (int tile = 0; tile < D / 8; tile++)
      to[tile * 4] = __floats2half2_rn(o[tile][2 * pair] * share, o[tile][2 * pair + 1] * share);
  }
}

#define ATTEND(NAME, D, WARPS)                                                                   \
  extern "C" __global__ void __launch_bounds__(32 * WARPS) NAME(                                 \
      const half* qkv, const uint32_t* bounds, half* out, int heads, float scale) {              \
    attend<D, WARPS>(qkv, bounds, out, heads, scale);                                            \
  }
ATTEND(attend32, 32, 4)
ATTEND(attend32_long, 32, 8)
ATTEND(attend64, 64, 4)
ATTEND(attend64_long, 64, 8)
