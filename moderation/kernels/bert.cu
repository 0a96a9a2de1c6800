// The kernels of a packed BERT: all tokens of a batch lie in one sequence without padding. f16 in memory, f32 in
// registers; from sm_75 on. build.sh turns this into bert.ptx, which is committed, so that no build needs nvcc.
// What each kernel asks of its arguments stands in src/model/gpu/kernels.rs, beside its launch.
#include <cuda_fp16.h>
#include <mma.h>
#include <stdint.h>
using namespace nvcuda;
#define NT 128
__device__ __forceinline__ float block_sum(float v, float* sh) {
  #pragma unroll
  for (int o = 16; o; o >>= 1) v += __shfl_xor_sync(0xffffffffu, v, o);
  if ((threadIdx.x & 31) == 0) sh[threadIdx.x >> 5] = v;
  __syncthreads();
  float s = sh[0] + sh[1] + sh[2] + sh[3];
  __syncthreads();
  return s;
}
// H <= 1024, even
__device__ __forceinline__ void ln_write(float2* v, int H2, const half2* g, const half2* b, half2* out, float eps, float* sh) {
  float s = 0.f;
  #pragma unroll
  for (int i = 0; i < 4; i++) { int c = threadIdx.x + i * NT; if (c < H2) s += v[i].x + v[i].y; }
  float mean = block_sum(s, sh) / (2 * H2);
  float q = 0.f;
  #pragma unroll
  for (int i = 0; i < 4; i++) { int c = threadIdx.x + i * NT; if (c < H2) { float a = v[i].x - mean, d = v[i].y - mean; q += a * a + d * d; } }
  float inv = rsqrtf(block_sum(q, sh) / (2 * H2) + eps);
  #pragma unroll
  for (int i = 0; i < 4; i++) { int c = threadIdx.x + i * NT; if (c < H2) {
    float2 gg = __half22float2(g[c]), bb = __half22float2(b[c]);
    out[c] = __floats2half2_rn((v[i].x - mean) * inv * gg.x + bb.x, (v[i].y - mean) * inv * gg.y + bb.y); } }
}
extern "C" __global__ void embed_ln(const uint32_t* ids, const uint32_t* types, const uint32_t* pos, const half2* we, const half2* pe, const half2* te,
    const half2* g, const half2* b, half2* out, int H2, float eps) {
  __shared__ float sh[4];
  const long t = blockIdx.x; const half2* w = we + (long)ids[t] * H2; const half2* p = pe + (long)pos[t] * H2; const half2* k = te + (long)types[t] * H2;
  float2 v[4];
  #pragma unroll
  for (int i = 0; i < 4; i++) { int c = threadIdx.x + i * NT; if (c < H2) {
    float2 a = __half22float2(w[c]), d = __half22float2(p[c]), e = __half22float2(k[c]);
    v[i] = make_float2(a.x + d.x + e.x, a.y + d.y + e.y); } }
  ln_write(v, H2, g, b, out + t * H2, eps, sh);
}
extern "C" __global__ void bias_res_ln(const half2* x, const half2* bias, const half2* res, const half2* g, const half2* b, half2* out, int H2, float eps) {
  __shared__ float sh[4];
  const long t = blockIdx.x; float2 v[4];
  #pragma unroll
  for (int i = 0; i < 4; i++) { int c = threadIdx.x + i * NT; if (c < H2) {
    float2 a = __half22float2(x[t * H2 + c]), d = __half22float2(bias[c]), e = __half22float2(res[t * H2 + c]);
    v[i] = make_float2(a.x + d.x + e.x, a.y + d.y + e.y); } }
  ln_write(v, H2, g, b, out + t * H2, eps, sh);
}
__device__ __forceinline__ float gelu1(float x) { return 0.5f * x * (1.f + erff(x * 0.70710678118654752f)); }
// n8 = number of 8-half groups, c8 = groups in a row
extern "C" __global__ void bias_gelu(uint4* x, const uint4* bias, int n8, int c8) {
  int i = blockIdx.x * blockDim.x + threadIdx.x; if (i >= n8) return;
  uint4 a = x[i], b = bias[i % c8]; half2* ah = (half2*)&a; half2* bh = (half2*)&b;
  #pragma unroll
  for (int k = 0; k < 4; k++) { float2 u = __half22float2(ah[k]), w = __half22float2(bh[k]);
    ah[k] = __floats2half2_rn(gelu1(u.x + w.x), gelu1(u.y + w.y)); }
  x[i] = a;
}
// softmax(q k^T * scale) v, one block per (64-query tile, head, sequence); bidirectional; qkv packed [T, 3, nh, D]
template <int D> __device__ void attn(const half* qkv, const half* bias, const uint32_t* cu, half* out, int nh, float scale) {
  constexpr int LD = D + 8, SP = 68;
  const int b = blockIdx.z, h = blockIdx.y, q0 = blockIdx.x * 64;
  const int s0 = cu[b], S = (int)cu[b + 1] - s0;
  if (q0 >= S) return;
  const int H = nh * D; const long ld = 3 * H;
  __shared__ __align__(128) half sK[64 * LD];
  __shared__ __align__(128) half sV[64 * LD];
  __shared__ __align__(128) float sS[4 * 16 * SP];
  const int tid = threadIdx.x, warp = tid >> 5, lane = tid & 31;
  float* sw = sS + warp * 16 * SP;
  auto load = [&](half* dst, int which, int r0, float sc) {
    const half* base = qkv + (long)s0 * ld + which * H + h * D; const half* bb = bias + which * H + h * D;
    for (int i = tid; i < 64 * (D / 8); i += NT) { int r = i / (D / 8), c = i % (D / 8); uint4 v = make_uint4(0, 0, 0, 0);
      if (r0 + r < S) { v = *(const uint4*)(base + (long)(r0 + r) * ld + c * 8); uint4 w = *(const uint4*)(bb + c * 8);
        half2* vh = (half2*)&v; half2* wh = (half2*)&w;
        #pragma unroll
        for (int k = 0; k < 4; k++) { float2 a = __half22float2(vh[k]), d = __half22float2(wh[k]); vh[k] = __floats2half2_rn((a.x + d.x) * sc, (a.y + d.y) * sc); } }
      *(uint4*)(dst + r * LD + c * 8) = v; } };
  load(sK, 0, q0, scale);
  __syncthreads();
  wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> qf[D / 16];
  #pragma unroll
  for (int k = 0; k < D / 16; k++) wmma::load_matrix_sync(qf[k], sK + warp * 16 * LD + k * 16, LD);
  wmma::fragment<wmma::accumulator, 16, 16, 16, float> o[D / 16];
  #pragma unroll
  for (int k = 0; k < D / 16; k++) wmma::fill_fragment(o[k], 0.f);
  const int r = lane >> 1, hh = lane & 1;
  float m = -INFINITY, l = 0.f;
  const bool live = q0 + warp * 16 < S;   // whole warp has no query: skip the maths, keep the barriers
  for (int k0 = 0; k0 < S; k0 += 64) {
    __syncthreads();
    load(sK, 1, k0, 1.f); load(sV, 2, k0, 1.f);
    __syncthreads();
    if (!live) continue;
    const int nk = min(4, (S - k0 + 15) / 16);   // 16-key groups that hold a key
    for (int n = 0; n < nk; n++) {
      wmma::fragment<wmma::accumulator, 16, 16, 16, float> acc; wmma::fill_fragment(acc, 0.f);
      #pragma unroll
      for (int k = 0; k < D / 16; k++) { wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::col_major> kf;
        wmma::load_matrix_sync(kf, sK + n * 16 * LD + k * 16, LD); wmma::mma_sync(acc, qf[k], kf, acc); }
      wmma::store_matrix_sync(sw + n * 16, acc, SP, wmma::mem_row_major);
    }
    __syncwarp();
    float v[32], mx = -INFINITY;
    #pragma unroll
    for (int j = 0; j < 32; j++) { int c = hh * 32 + j; v[j] = (k0 + c < S) ? sw[r * SP + c] : -INFINITY; mx = fmaxf(mx, v[j]); }
    mx = fmaxf(mx, __shfl_xor_sync(0xffffffffu, mx, 1));
    float mn = fmaxf(m, mx), al = __expf(m - mn), s = 0.f; m = mn;
    #pragma unroll
    for (int j = 0; j < 32; j++) { v[j] = __expf(v[j] - mn); s += v[j]; }
    s += __shfl_xor_sync(0xffffffffu, s, 1);
    l = l * al + s;
    __syncwarp();
    half2* p = (half2*)(sw + r * SP);
    #pragma unroll
    for (int j = 0; j < 16; j++) p[hh * 16 + j] = __floats2half2_rn(v[2 * j], v[2 * j + 1]);
    #pragma unroll
    for (int j = 0; j < 8; j++) sw[r * SP + 40 + hh * 8 + j] = al;
    __syncwarp();
    if (k0) { wmma::fragment<wmma::accumulator, 16, 16, 16, float> sc; wmma::load_matrix_sync(sc, sw + 40, SP, wmma::mem_row_major);
      #pragma unroll
      for (int k = 0; k < D / 16; k++)
        #pragma unroll
        for (int i = 0; i < sc.num_elements; i++) o[k].x[i] *= sc.x[i]; }
    for (int kk = 0; kk < nk; kk++) { wmma::fragment<wmma::matrix_a, 16, 16, 16, half, wmma::row_major> pf;
      wmma::load_matrix_sync(pf, (half*)sw + kk * 16, 2 * SP);
      #pragma unroll
      for (int n = 0; n < D / 16; n++) { wmma::fragment<wmma::matrix_b, 16, 16, 16, half, wmma::row_major> vf;
        wmma::load_matrix_sync(vf, sV + kk * 16 * LD + n * 16, LD); wmma::mma_sync(o[n], pf, vf, o[n]); } }
    __syncwarp();
  }
  if (!live) return;
  #pragma unroll
  for (int n = 0; n < D / 16; n++) wmma::store_matrix_sync(sw + n * 16, o[n], SP, wmma::mem_row_major);
  __syncwarp();
  int row = q0 + warp * 16 + r;
  if (row < S) { float inv = 1.f / l; half2* dst = (half2*)(out + (long)(s0 + row) * H + h * D) + hh * (D / 4);
    #pragma unroll
    for (int j = 0; j < D / 4; j++) dst[j] = __floats2half2_rn(sw[r * SP + hh * (D / 2) + 2 * j] * inv, sw[r * SP + hh * (D / 2) + 2 * j + 1] * inv); }
}
extern "C" __global__ void __launch_bounds__(128) attn64(const half* q, const half* b, const uint32_t* cu, half* o, int nh, float s) { attn<64>(q, b, cu, o, nh, s); }
extern "C" __global__ void __launch_bounds__(128) attn32(const half* q, const half* b, const uint32_t* cu, half* o, int nh, float s) { attn<32>(q, b, cu, o, nh, s); }
