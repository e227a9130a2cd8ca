// Sums over channels, the second stage of every reduction, and the bias of a convolution.
#include "block.cuh"
#include <cuda_bf16.h>

__device__ inline float to_float(float x) { return x; }
__device__ inline float to_float(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline void store(float *place, double x) { *place = (float)x; }
__device__ inline void store(double *place, double x) { *place = x; }
__device__ inline void store(__nv_bfloat16 *place, double x) { *place = __float2bfloat16((float)x); }

// partial[plane * chunks + chunk] = the sum of the chunk; one block per chunk of each plane.
template <typename T> __device__ void plane_sums(const T *x, unsigned volume, unsigned chunks, double *partial) {
  const Part part(volume, chunks);
  x += (size_t)part.plane * volume;
  float sum = 0;
  for (unsigned i = part.first + threadIdx.x; i < part.end; i += THREADS) sum += to_float(x[i]);
  const double total = block_sum(sum);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

// sums[group * width + w] = the sum over i < count of partial[(group * count + i) * width + w]; one block per sum.
template <typename T> __device__ void sum_partials(const double *partial, unsigned count, unsigned width, T *sums) {
  const unsigned group = blockIdx.x / width, w = blockIdx.x % width;
  double sum = 0;
  for (unsigned i = threadIdx.x; i < count; i += THREADS) sum += partial[((size_t)group * count + i) * width + w];
  sum = block_sum(sum);
  if (threadIdx.x == 0) store(&sums[blockIdx.x], sum);
}

// y[plane][i] += bias[plane % channels]; one thread per element.
template <typename T> __device__ void add_bias(const T *bias, unsigned channels, unsigned volume, unsigned count, T *y) {
  const unsigned i = element();
  if (i < count) store(&y[i], to_float(y[i]) + to_float(bias[i / volume % channels]));
}

extern "C" {
__global__ void plane_sums_f32(const float *x, unsigned volume, unsigned chunks, double *partial) {
  plane_sums(x, volume, chunks, partial);
}
__global__ void plane_sums_bf16(const __nv_bfloat16 *x, unsigned volume, unsigned chunks, double *partial) {
  plane_sums(x, volume, chunks, partial);
}
__global__ void sum_partials_f64(const double *partial, unsigned count, unsigned width, double *sums) {
  sum_partials(partial, count, width, sums);
}
__global__ void sum_partials_f32(const double *partial, unsigned count, unsigned width, float *sums) {
  sum_partials(partial, count, width, sums);
}
__global__ void sum_partials_bf16(const double *partial, unsigned count, unsigned width, __nv_bfloat16 *sums) {
  sum_partials(partial, count, width, sums);
}
__global__ void add_bias_f32(const float *bias, unsigned channels, unsigned volume, unsigned count, float *y) {
  add_bias(bias, channels, volume, count, y);
}
__global__ void add_bias_bf16(const __nv_bfloat16 *bias, unsigned channels, unsigned volume, unsigned count, __nv_bfloat16 *y) {
  add_bias(bias, channels, volume, count, y);
}
}
