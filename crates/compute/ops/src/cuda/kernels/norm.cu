// Instance and group normalisation with leaky ReLU: see cpu/norm.rs for the formulas. A group is a run of `per_group`
// channels of one batch entry, which lie one behind the other; an instance is a group of one.
#include "block.cuh"

extern "C" {

// moments[block] = (mean, sum of squared deviations from it) of one chunk; one block per chunk of each group, whose volume
// is that of all of its channels.
// Two passes over a chunk that the first-level cache holds: no cancellation, however far the mean is from zero.
__global__ void norm_moments(const float *x, unsigned volume, unsigned chunks, double2 *moments) {
  const Part part(volume, chunks);
  x += (size_t)part.plane * volume;
  const double count = part.end - part.first;
  float sum = 0;
  for (unsigned i = part.first + threadIdx.x; i < part.end; i += THREADS) sum += x[i];
  const double mean = block_sum(sum) / count;
  const float centre = (float)mean;
  float squares = 0;
  for (unsigned i = part.first + threadIdx.x; i < part.end; i += THREADS) squares += (x[i] - centre) * (x[i] - centre);
  // The correction undoes the rounding of the centre to single precision.
  const double off = mean - centre;
  const double total = block_sum(squares) - count * off * off;
  if (threadIdx.x == 0) moments[blockIdx.x] = make_double2(mean, total);
}

// statistics[group] = (mean, 1 / sqrt(variance + eps)), from the moments of the group's chunks; one block per group.
__global__ void norm_statistics(const double2 *moments, unsigned volume, unsigned chunks, float eps, float2 *statistics) {
  moments += (size_t)blockIdx.x * chunks;
  double sum = 0;
  for (unsigned i = threadIdx.x; i < chunks; i += THREADS) sum += moments[i].x * min(CHUNK, volume - i * CHUNK);
  const double mean = block_sum(sum) / volume;
  double squares = 0;
  for (unsigned i = threadIdx.x; i < chunks; i += THREADS) {
    const double off = moments[i].x - mean;
    squares += moments[i].y + off * off * min(CHUNK, volume - i * CHUNK);
  }
  const double variance = max(block_sum(squares) / volume, 0.0);
  if (threadIdx.x == 0) statistics[blockIdx.x] = make_float2((float)mean, 1.0f / sqrtf((float)variance + eps));
}

// y = leaky_relu(gamma (x - mean) scale + beta); one block per chunk of each plane.
__global__ void norm_apply(const float *x, const float2 *statistics, const float *gamma, const float *beta, unsigned channels,
                           unsigned per_group, unsigned volume, unsigned chunks, float slope, float *y) {
  const Part part(volume, chunks);
  const float2 s = statistics[part.plane / per_group];
  const float factor = gamma[part.plane % channels] * s.y;
  const float offset = beta[part.plane % channels] - s.x * factor;
  const size_t start = (size_t)part.plane * volume;
  for (unsigned i = part.first + threadIdx.x; i < part.end; i += THREADS) {
    const float value = x[start + i] * factor + offset;
    y[start + i] = value > 0 ? value : value * slope;
  }
}
}

// What one plane's gradients need.
struct Plane {
  float mean, scale, gamma, beta, slope;
  __device__ Plane(unsigned plane, float2 statistics, const float *gammas, const float *betas, unsigned channels, float slope)
      : mean(statistics.x), scale(statistics.y), gamma(gammas[plane % channels]), beta(betas[plane % channels]), slope(slope) {}

  __device__ float normed(float x) const { return (x - mean) * scale; }

  // The gradient before the activation, whose derivative at exactly zero is the slope, as in PyTorch.
  __device__ float before_activation(float normed, float dy) const { return normed * gamma + beta > 0 ? dy : dy * slope; }
};

extern "C" {

// Sums over each chunk of d h, and behind those of all planes, of d, where h is the normalised input and d the gradient
// before the activation; one block per chunk of each plane.
__global__ void norm_gradient_sums(const float *x, const float *dy, const float2 *statistics, const float *gamma, const float *beta,
                                   unsigned channels, unsigned per_group, unsigned volume, unsigned chunks, float slope,
                                   double *partial) {
  const Part part(volume, chunks);
  const Plane plane(part.plane, statistics[part.plane / per_group], gamma, beta, channels, slope);
  const size_t start = (size_t)part.plane * volume;
  float sum_dh = 0, sum_d = 0;
  for (unsigned i = part.first + threadIdx.x; i < part.end; i += THREADS) {
    const float normed = plane.normed(x[start + i]);
    const float d = plane.before_activation(normed, dy[start + i]);
    sum_dh += d * normed;
    sum_d += d;
  }
  const double total_dh = block_sum(sum_dh), total_d = block_sum(sum_d);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = total_dh;
    partial[(size_t)gridDim.x + blockIdx.x] = total_d;
  }
}

// dx = scale (gamma d - mean(gamma d) - h mean(gamma d h)), the means being over the group; `sums` holds the planes' sums of
// d h and behind them those of d.
__global__ void norm_gradient(const float *x, const float *dy, const float2 *statistics, const float *gamma, const float *beta,
                              const double *sums, unsigned channels, unsigned per_group, unsigned volume, unsigned chunks, float slope,
                              float *dx) {
  const Part part(volume, chunks);
  const Plane plane(part.plane, statistics[part.plane / per_group], gamma, beta, channels, slope);
  const unsigned planes = gridDim.x / chunks, first = part.plane - part.plane % per_group;
  double sum_dh = 0, sum_d = 0;
  for (unsigned p = first; p < first + per_group; ++p) {
    sum_dh += gamma[p % channels] * sums[p];
    sum_d += gamma[p % channels] * sums[planes + p];
  }
  const double count = (double)per_group * volume;
  const float mean_dh = (float)(sum_dh / count), mean_d = (float)(sum_d / count);
  const size_t start = (size_t)part.plane * volume;
  for (unsigned i = part.first + threadIdx.x; i < part.end; i += THREADS) {
    const float normed = plane.normed(x[start + i]);
    const float d = plane.before_activation(normed, dy[start + i]);
    dx[start + i] = plane.scale * (plane.gamma * d - mean_d - normed * mean_dh);
  }
}
}
