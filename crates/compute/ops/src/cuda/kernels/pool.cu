// Maximum pooling by 2, and replication of last planes. Volumes are (depth, height, width); an image has depth 1.
#include "block.cuh"

// A position in a volume, from its number counted over all volumes.
struct Place {
  unsigned plane, d, h, w;
  __device__ Place(unsigned i, uint3 size) {
    w = i % size.z;
    i /= size.z;
    h = i % size.y;
    i /= size.y;
    d = i % size.x;
    plane = i / size.x;
  }
  __device__ size_t in(uint3 size) const { return (((size_t)plane * size.x + d) * size.y + h) * size.z + w; }
};

// As in PyTorch a later element wins when greater or not a number.
__device__ inline bool wins(float value, float best) { return value > best || isnan(value); }

extern "C" {

// The maximum of every window; one thread per window. `window` is the window's depth, 1 for images.
__global__ void max_pool2(const float *x, unsigned depth, unsigned height, unsigned width, unsigned window, unsigned count, float *y) {
  const unsigned i = element();
  if (i >= count) return;
  const uint3 input = make_uint3(depth, height, width);
  const Place to(i, make_uint3(depth / window, height / 2, width / 2));
  Place from = to;
  float best = -INFINITY;
  for (from.d = to.d * window; from.d < to.d * window + window; ++from.d)
    for (from.h = to.h * 2; from.h < to.h * 2 + 2; ++from.h)
      for (from.w = to.w * 2; from.w < to.w * 2 + 2; ++from.w) {
        const float value = x[from.in(input)];
        if (wins(value, best)) best = value;
      }
  y[i] = best;
}

// Each window's gradient goes to its first maximum; one thread per window, those that the end of an odd size cuts
// included: they have no gradient, but their elements are to be written. `count` is of all of them.
__global__ void max_pool2_gradient(const float *x, const float *dy, unsigned depth, unsigned height, unsigned width, unsigned window,
                                   unsigned count, float *dx) {
  const unsigned i = element();
  if (i >= count) return;
  const uint3 input = make_uint3(depth, height, width);
  const uint3 output = make_uint3(depth / window, height / 2, width / 2);
  const Place to(i, make_uint3((depth + window - 1) / window, (height + 1) / 2, (width + 1) / 2));
  const bool whole = to.d < output.x && to.h < output.y && to.w < output.z;
  const float gradient = whole ? dy[to.in(output)] : 0;
  const unsigned end_d = min(to.d * window + window, depth), end_h = min(to.h * 2 + 2, height), end_w = min(to.w * 2 + 2, width);
  Place from = to;
  float best = -INFINITY;
  unsigned first = 0, number = 0;
  for (from.d = to.d * window; from.d < end_d; ++from.d)
    for (from.h = to.h * 2; from.h < end_h; ++from.h)
      for (from.w = to.w * 2; from.w < end_w; ++from.w, ++number) {
        const float value = x[from.in(input)];
        if (wins(value, best)) {
          best = value;
          first = number;
        }
      }
  number = 0;
  for (from.d = to.d * window; from.d < end_d; ++from.d)
    for (from.h = to.h * 2; from.h < end_h; ++from.h)
      for (from.w = to.w * 2; from.w < end_w; ++from.w, ++number) dx[from.in(input)] = number == first ? gradient : 0;
}

// Every volume with the last planes doubled along the axes that grow; one thread per element of the output.
__global__ void pad_replicate_end(const float *x, unsigned depth, unsigned height, unsigned width, unsigned grow_d, unsigned grow_h,
                                  unsigned grow_w, unsigned count, float *y) {
  const unsigned i = element();
  if (i >= count) return;
  Place from(i, make_uint3(depth + grow_d, height + grow_h, width + grow_w));
  from.d = min(from.d, depth - 1);
  from.h = min(from.h, height - 1);
  from.w = min(from.w, width - 1);
  y[i] = x[from.in(make_uint3(depth, height, width))];
}

// The gradients of all copies of an element, added in their order; one thread per element of the input.
__global__ void pad_replicate_end_gradient(const float *dy, unsigned depth, unsigned height, unsigned width, unsigned grow_d,
                                           unsigned grow_h, unsigned grow_w, unsigned count, float *dx) {
  const unsigned i = element();
  if (i >= count) return;
  const Place to(i, make_uint3(depth, height, width));
  const uint3 output = make_uint3(depth + grow_d, height + grow_h, width + grow_w);
  const unsigned last_d = to.d == depth - 1 ? to.d + grow_d : to.d;
  const unsigned last_h = to.h == height - 1 ? to.h + grow_h : to.h;
  const unsigned last_w = to.w == width - 1 ? to.w + grow_w : to.w;
  Place from = to;
  float sum = 0;
  for (from.d = to.d; from.d <= last_d; ++from.d)
    for (from.h = to.h; from.h <= last_h; ++from.h)
      for (from.w = to.w; from.w <= last_w; ++from.w) sum += dy[from.in(output)];
  dx[i] = sum;
}
}
