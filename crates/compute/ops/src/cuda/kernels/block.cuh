// What the kernels share. Planes are the volumes of one channel of one batch entry; work is cut by shape alone, and every
// sum is added in an order that follows from block and thread numbers, so that results are the same in every run.
#pragma once

// Threads of every block; the Rust side starts kernels with the same number.
constexpr unsigned THREADS = 256;
constexpr unsigned WARPS = THREADS / 32;
// Elements of a plane that one block sums. Each thread adds 32 of them in single precision, the rest is added in double.
constexpr unsigned CHUNK = 8192;

// The element that this thread computes, one of at most 2^31.
__device__ inline unsigned element() { return blockIdx.x * THREADS + threadIdx.x; }

// The part of a plane that this block works on.
struct Part {
  unsigned plane, chunk, first, end;
  __device__ Part(unsigned volume, unsigned chunks)
      : plane(blockIdx.x / chunks), chunk(blockIdx.x % chunks), first(chunk * CHUNK), end(min(first + CHUNK, volume)) {}
};

// The sum over the threads of a warp, for its first thread.
template <typename T> __device__ T warp_sum(T value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_down_sync(~0u, value, offset);
  return value;
}

// The sum over the threads of the block, for all of them. Every thread must take part.
__device__ inline double block_sum(double value) {
  __shared__ double warps[WARPS];
  value = warp_sum(value);
  __syncthreads(); // an earlier sum may still be read
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
  __syncthreads();
  double sum = 0;
  for (unsigned warp = 0; warp < WARPS; ++warp) sum += warps[warp];
  return sum;
}
