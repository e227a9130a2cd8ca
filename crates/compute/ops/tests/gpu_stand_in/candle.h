// The kernels of candle's that the tests meet, each by its first thread alone. `info` holds dimensions and strides, or is null.
#pragma once
#include "cuda_bf16.h"

namespace candle {
using bf16 = __nv_bfloat16;
inline double value(float x) { return x; }
inline double value(double x) { return x; }
inline double value(uint8_t x) { return x; }
inline double value(bf16 x) { return __bfloat162float(x); }
inline void set(float &place, double x) { place = (float)x; }
inline void set(double &place, double x) { place = x; }
inline void set(bf16 &place, double x) { place = __float2bfloat16((float)x); }

inline bool first() { return blockIdx.x == 0 && threadIdx.x == 0; }

// Where element `i` of a tensor is whose strides come `which` after its dimensions.
inline size_t at(size_t i, size_t rank, const size_t *info, int which = 1) {
  if (!info) return i;
  size_t place = 0;
  for (size_t axis = rank; axis-- > 0; i /= info[axis]) place += i % info[axis] * info[which * rank + axis];
  return place;
}

template <typename T, char OP> void binary(size_t n, size_t rank, const size_t *info, const T *l, const T *r, T *y) {
  for (size_t i = 0; first() && i < n; ++i) {
    const double a = value(l[at(i, rank, info)]), b = value(r[at(i, rank, info, 2)]);
    set(y[i], OP == '+' ? a + b : a * b);
  }
}
template <typename T> void copy(size_t n, size_t rank, const size_t *info, const T *x, T *y) {
  for (size_t i = 0; first() && i < n; ++i) y[i] = x[at(i, rank, info)];
}
template <typename T, typename U> void cast(size_t n, size_t rank, const size_t *info, const T *x, U *y) {
  for (size_t i = 0; first() && i < n; ++i) set(y[i], value(x[at(i, rank, info)]));
}
template <typename T> void affine(size_t n, size_t rank, const size_t *info, const T *x, T *y, T factor, T summand) {
  for (size_t i = 0; first() && i < n; ++i) set(y[i], value(x[at(i, rank, info)]) * value(factor) + value(summand));
}
template <typename T> void const_set(size_t n, size_t rank, const size_t *info, T x, T *y) {
  for (size_t i = 0; first() && i < n; ++i) y[at(i, rank, info)] = x;
}
template <typename T> void copy2d(const T *x, T *y, uint32_t rows, uint32_t columns, uint32_t x_stride, uint32_t y_stride) {
  for (size_t i = 0; first() && i < rows; ++i)
    for (size_t j = 0; j < columns; ++j) y[i * y_stride + j] = x[i * x_stride + j];
}
// Sums of `length` elements each: one per block, or all of them.
template <typename T> void sum_of(size_t j, size_t length, size_t rank, const size_t *info, const T *x, T *y) {
  double sum = 0;
  for (size_t i = 0; i < length; ++i) sum += value(x[at(j * length + i, rank, info)]);
  set(y[j], sum);
}
template <typename T> void sum(size_t, size_t length, size_t rank, const size_t *info, const T *x, T *y) {
  if (threadIdx.x == 0) sum_of(blockIdx.x, length, rank, info, x, y);
}
template <typename T> void sum_small(size_t n, size_t length, size_t rank, const size_t *info, const T *x, T *y) {
  for (size_t j = 0; first() && j < n; ++j) sum_of(j, length, rank, info, x, y);
}
} // namespace candle
