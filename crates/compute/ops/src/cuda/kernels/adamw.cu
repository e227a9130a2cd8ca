// One step of AdamW: moments and value in one pass.
#include "block.cuh"

extern "C" __global__ void adamw(const float *gradient, float rate1, float rate2, float keep, float step, float scale, float eps,
                                 unsigned count, float *value, float *m, float *v) {
  const unsigned i = element();
  if (i >= count) return;
  const float g = gradient[i];
  const float mean = m[i] + (g - m[i]) * rate1;
  const float square = v[i] + (g * g - v[i]) * rate2;
  m[i] = mean;
  v[i] = square;
  value[i] = value[i] * keep - step * mean / (sqrtf(square) * scale + eps);
}
