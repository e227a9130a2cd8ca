// Softmax losses over channels without one-hot or probability tensors, and the most likely channel: see cpu/loss.rs.
// Logits are (batch, classes, voxels), labels (batch, voxels).
#include "block.cuh"

// Voxels per thread of `loss_sums`: the logits of its block's voxels stay in the first-level cache between the passes.
constexpr unsigned VOXELS = 4;

// Maximum and sum of exp(z - maximum) over the classes of one voxel, whose logits lie `stride` apart.
__device__ inline float2 softmax_parts(const float *z, unsigned classes, unsigned stride) {
  float maximum = -INFINITY, sum = 0;
  for (unsigned c = 0; c < classes; ++c) maximum = max(maximum, z[(size_t)c * stride]);
  for (unsigned c = 0; c < classes; ++c) sum += expf(z[(size_t)c * stride] - maximum);
  return make_float2(maximum, sum);
}

// The derivative by the probability p of a class whose slopes are `slopes`.
__device__ inline float by_probability(float2 slopes, float p, float truth, unsigned squared) {
  return slopes.x * truth + slopes.y * (squared ? 2 * p : 1);
}

extern "C" {

// One block per THREADS * VOXELS voxels of each batch entry, `chunks` of them. Its 3 * classes + 2 sums are, per class, of
// p t, of p (or its square) and of t; then of the log-probabilities of the labels, and the number of labels beyond the
// classes. Shared memory holds 3 * classes floats per warp.
__global__ void loss_sums(const float *logits, const unsigned char *labels, unsigned classes, unsigned voxels, unsigned chunks,
                          unsigned squared, double *partial) {
  extern __shared__ float shared[]; // [quantity][warp]
  const unsigned entry = blockIdx.x / chunks, first = blockIdx.x % chunks * (THREADS * VOXELS) + threadIdx.x;
  const float *z = logits + (size_t)entry * classes * voxels;
  float maximum[VOXELS], reciprocal[VOXELS];
  unsigned label[VOXELS];
  double log_likelihood = 0, foreign = 0;
  for (unsigned k = 0; k < VOXELS; ++k) {
    const unsigned v = first + k * THREADS;
    if (v < voxels) {
      const float2 parts = softmax_parts(z + v, classes, voxels);
      maximum[k] = parts.x;
      reciprocal[k] = 1.0f / parts.y;
      label[k] = labels[(size_t)entry * voxels + v];
      if (label[k] < classes)
        log_likelihood += z[(size_t)label[k] * voxels + v] - (parts.x + logf(parts.y));
      else
        foreign += 1;
    }
  }
  for (unsigned c = 0; c < classes; ++c) {
    float overlap = 0, mass = 0, count = 0;
    for (unsigned k = 0; k < VOXELS; ++k) {
      const unsigned v = first + k * THREADS;
      if (v < voxels) {
        const float p = expf(z[(size_t)c * voxels + v] - maximum[k]) * reciprocal[k];
        const float truth = label[k] == c ? 1 : 0;
        overlap += p * truth;
        mass += squared ? p * p : p;
        count += truth;
      }
    }
    overlap = warp_sum(overlap), mass = warp_sum(mass), count = warp_sum(count);
    if (threadIdx.x % 32 == 0) {
      float *place = shared + (size_t)3 * c * WARPS + threadIdx.x / 32;
      place[0] = overlap, place[WARPS] = mass, place[2 * WARPS] = count;
    }
  }
  log_likelihood = block_sum(log_likelihood), foreign = block_sum(foreign); // which also wait for `shared`
  const unsigned width = 3 * classes + 2;
  partial += (size_t)blockIdx.x * width;
  for (unsigned q = threadIdx.x; q < 3 * classes; q += THREADS) {
    double sum = 0;
    for (unsigned warp = 0; warp < WARPS; ++warp) sum += shared[q * WARPS + warp];
    partial[q] = sum;
  }
  if (threadIdx.x == 0) partial[width - 2] = log_likelihood, partial[width - 1] = foreign;
}

// The gradient by the logits times `d_loss`, one thread per voxel. `slopes` are per batch entry and class the derivatives
// by p: x where the class is true, plus y (times 2 p when squared) everywhere. With g those derivatives,
// dz = p (g - sum of p g) + (p - t) cross_entropy. Labels are below `classes`, the forward pass having seen to it.
__global__ void loss_gradient(const float *logits, const unsigned char *labels, const float2 *slopes, const float *d_loss,
                              unsigned classes, unsigned voxels, unsigned count, unsigned squared, float cross_entropy, float *gradient) {
  const unsigned i = element();
  if (i >= count) return;
  const unsigned entry = i / voxels;
  const size_t start = (size_t)entry * classes * voxels + i % voxels;
  const float *z = logits + start;
  slopes += (size_t)entry * classes;
  const unsigned label = labels[i];
  const float2 parts = softmax_parts(z, classes, voxels);
  const float reciprocal = 1.0f / parts.y, scale = *d_loss;
  float mean = 0;
  for (unsigned c = 0; c < classes; ++c) {
    const float p = expf(z[(size_t)c * voxels] - parts.x) * reciprocal;
    mean += p * by_probability(slopes[c], p, label == c ? 1 : 0, squared);
  }
  for (unsigned c = 0; c < classes; ++c) {
    const float p = expf(z[(size_t)c * voxels] - parts.x) * reciprocal;
    const float truth = label == c ? 1 : 0;
    const float by_p = by_probability(slopes[c], p, truth, squared);
    gradient[start + (size_t)c * voxels] = scale * (p * (by_p - mean) + (p - truth) * cross_entropy);
  }
}

// The channel of the greatest logit, the first one of several; one thread per voxel.
__global__ void argmax_channels(const float *logits, unsigned classes, unsigned voxels, unsigned count, unsigned char *labels) {
  const unsigned i = element();
  if (i >= count) return;
  const float *z = logits + (size_t)(i / voxels) * classes * voxels + i % voxels;
  float best = -INFINITY;
  unsigned char label = 0;
  for (unsigned c = 0; c < classes; ++c) {
    const float value = z[(size_t)c * voxels];
    if (value > best) {
      best = value;
      label = c;
    }
  }
  labels[i] = label;
}
}
