// What the kernels use of CUDA's language, in C++. All threads of a block run in one thread of the system, in turns.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

struct uint3 {
  unsigned x, y, z;
};
struct float2 {
  float x, y;
};
struct double2 {
  double x, y;
};
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
using std::isnan;

#define __global__
#define __device__
// One block runs at a time, so that its threads share what is there once.
#define __shared__ thread_local

constexpr unsigned MOST_THREADS = 1024;
inline uint3 threadIdx, blockIdx, gridDim;

// Lets the other threads of the block come as far as this one.
void wait_for_block();
inline void __syncthreads() { wait_for_block(); }

inline uint64_t lanes[MOST_THREADS];
template <typename T> T __shfl_down_sync(unsigned, T value, unsigned offset) {
  const unsigned thread = threadIdx.x;
  memcpy(&lanes[thread], &value, sizeof value);
  wait_for_block();
  if (thread % 32 + offset < 32) memcpy(&value, &lanes[thread + offset], sizeof value);
  wait_for_block();
  return value;
}
