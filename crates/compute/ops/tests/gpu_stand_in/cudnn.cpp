// What the tests need of cuDNN: convolutions by their definition, summed in double precision.
#include "cuda_bf16.h"

#include <algorithm>
#include <cstdio>
#include <vector>

enum { FLOAT = 0, BF16 = 9, BAD_PARAM = 2000, NOT_SUPPORTED = 3000 };
#define EXPECT(condition)                                                                                                                  \
  do {                                                                                                                                     \
    if (!(condition)) return fprintf(stderr, "gpu stand-in: cuDNN: %s (%s)\n", #condition, __func__), BAD_PARAM;                           \
  } while (0)

struct Tensor {
  int type = 0;
  std::vector<int> dims, strides;
  size_t count() const {
    size_t count = 1;
    for (int n : dims) count *= n;
    return count;
  }
};
struct Convolution {
  std::vector<int> padding, stride;
  int math = -1, groups = 1;
};
struct Performance {
  int algorithm, status;
  float time;
  size_t memory;
  int deterministic, math, reserved[3];
};

static double get(const void *data, int type, size_t i) {
  return type == FLOAT ? ((const float *)data)[i] : __bfloat162float(((const __nv_bfloat16 *)data)[i]);
}
static void put(void *data, int type, size_t i, double value) {
  if (type == FLOAT)
    ((float *)data)[i] = (float)value;
  else
    ((__nv_bfloat16 *)data)[i] = __float2bfloat16((float)value);
}

// Calls `visit(x, w, y)` with the places of all factors and products.
template <typename F> static int walk(const Tensor &x, const Tensor &w, const Convolution &c, const Tensor &y, F visit) {
  const size_t axes = c.stride.size();
  EXPECT(x.dims.size() == axes + 2 && w.dims.size() == axes + 2 && y.dims.size() == axes + 2);
  EXPECT(x.type == w.type && x.type == y.type && c.math >= 0);
  EXPECT(x.dims[0] == y.dims[0] && x.dims[1] == w.dims[1] * c.groups && y.dims[1] == w.dims[0] && y.dims[1] % c.groups == 0);
  for (const Tensor *t : {&x, &y})
    for (size_t a = axes + 2, expected = 1; a-- > 0; expected *= t->dims[a]) EXPECT(t->strides[a] == (int)expected);
  int in[3] = {1, 1, 1}, kernel[3] = {1, 1, 1}, out[3] = {1, 1, 1}, pad[3] = {}, step[3] = {1, 1, 1};
  for (size_t a = 0; a < axes; ++a) {
    const size_t to = 3 - axes + a;
    in[to] = x.dims[2 + a], kernel[to] = w.dims[2 + a], out[to] = y.dims[2 + a], pad[to] = c.padding[a], step[to] = c.stride[a];
    EXPECT((in[to] + 2 * pad[to] - kernel[to]) / step[to] + 1 == out[to]);
  }
  const auto place = [](int first, int second, int seconds, int d, int h, int w, const int *size) {
    return ((((size_t)first * seconds + second) * size[0] + d) * size[1] + h) * size[2] + w;
  };
  for (int n = 0; n < x.dims[0]; ++n)
    for (int co = 0; co < w.dims[0]; ++co)
      for (int ci = 0; ci < w.dims[1]; ++ci)
        for (int i = 0; i < kernel[0] * kernel[1] * kernel[2]; ++i) {
          const int kd = i / kernel[2] / kernel[1], kh = i / kernel[2] % kernel[1], kw = i % kernel[2];
          for (int d = 0; d < out[0]; ++d)
            for (int h = 0; h < out[1]; ++h)
              for (int q = 0; q < out[2]; ++q) {
                const int xd = d * step[0] + kd - pad[0], xh = h * step[1] + kh - pad[1], xw = q * step[2] + kw - pad[2];
                if (xd >= 0 && xh >= 0 && xw >= 0 && xd < in[0] && xh < in[1] && xw < in[2])
                  visit(place(n, co / (w.dims[0] / c.groups) * w.dims[1] + ci, x.dims[1], xd, xh, xw, in), place(co, ci, w.dims[1], kd, kh, kw, kernel),
                        place(n, co, y.dims[1], d, h, q, out));
              }
        }
  return 0;
}

static int write(const Tensor &t, void *to, const std::vector<double> &sums) {
  for (size_t i = 0; i < sums.size(); ++i) put(to, t.type, i, sums[i]);
  return 0;
}

// The memory that a convolution needs beside its arguments; it is written from end to end.
static size_t workspace(const Tensor &y) { return 1000 + y.count(); }
enum { FAILS, NOT_DETERMINISTIC, GREEDY, GOOD };

static int choose(const Convolution *c, int places, int *found, Performance *answers) {
  EXPECT(places >= 4);
  answers[0] = {FAILS, NOT_SUPPORTED, -1, 0, 1, c->math, {}};
  answers[1] = {NOT_DETERMINISTIC, 0, 1, 0, 0, c->math, {}};
  answers[2] = {GREEDY, 0, 1, (size_t)8 << 30, 1, c->math, {}};
  answers[3] = {GOOD, 0, 1, 1000, 1, c->math, {}};
  return *found = 4, 0;
}
static int begin(int algorithm, void *work, size_t size, const float *alpha, const float *beta, const Tensor *y) {
  EXPECT(algorithm == GOOD && size >= workspace(*y) && *alpha == 1 && *beta == 0);
  return memset(work, 1, size), 0;
}

extern "C" {
int cudnnCreate(void **handle) { return *handle = handle, 0; }
int cudnnDestroy(void *) { return 0; }
int cudnnSetStream(void *, void *) { return 0; }
int cudnnCreateTensorDescriptor(Tensor **t) { return *t = new Tensor, 0; }
int cudnnCreateFilterDescriptor(Tensor **t) { return *t = new Tensor, 0; }
int cudnnCreateConvolutionDescriptor(Convolution **c) { return *c = new Convolution, 0; }
int cudnnDestroyTensorDescriptor(Tensor *t) { return delete t, 0; }
int cudnnDestroyFilterDescriptor(Tensor *t) { return delete t, 0; }
int cudnnDestroyConvolutionDescriptor(Convolution *c) { return delete c, 0; }
int cudnnSetTensorNdDescriptor(Tensor *t, int type, int rank, const int *dims, const int *strides) {
  EXPECT((type == FLOAT || type == BF16) && rank >= 4 && rank <= 5 && *std::min_element(dims, dims + rank) > 0);
  return *t = {type, {dims, dims + rank}, {strides, strides + rank}}, 0;
}
int cudnnSetFilterNdDescriptor(Tensor *t, int type, int format, int rank, const int *dims) {
  EXPECT(format == 0 && *std::min_element(dims, dims + rank) > 0);
  return *t = {type, {dims, dims + rank}, {}}, 0;
}
int cudnnSetConvolutionNdDescriptor(Convolution *c, int axes, const int *padding, const int *stride, const int *dilation, int mode, int type) {
  EXPECT(mode == 1 && type == FLOAT && std::all_of(dilation, dilation + axes, [](int n) { return n == 1; }));
  return *c = {{padding, padding + axes}, {stride, stride + axes}, c->math, c->groups}, 0;
}
int cudnnSetConvolutionMathType(Convolution *c, int math) { return c->math = math, 0; }
int cudnnSetConvolutionGroupCount(Convolution *c, int groups) { return c->groups = groups, 0; }

int cudnnGetConvolutionForwardAlgorithm_v7(void *, Tensor *, Tensor *, Convolution *c, Tensor *, int n, int *found, Performance *p) {
  return choose(c, n, found, p);
}
int cudnnGetConvolutionBackwardDataAlgorithm_v7(void *, Tensor *, Tensor *, Convolution *c, Tensor *, int n, int *found, Performance *p) {
  return choose(c, n, found, p);
}
int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *, Tensor *, Tensor *, Convolution *c, Tensor *, int n, int *found, Performance *p) {
  return choose(c, n, found, p);
}
int cudnnGetConvolutionForwardWorkspaceSize(void *, Tensor *, Tensor *, Convolution *, Tensor *y, int, size_t *size) {
  return *size = workspace(*y), 0;
}
int cudnnGetConvolutionBackwardDataWorkspaceSize(void *, Tensor *, Tensor *y, Convolution *, Tensor *, int, size_t *size) {
  return *size = workspace(*y), 0;
}
int cudnnGetConvolutionBackwardFilterWorkspaceSize(void *, Tensor *, Tensor *y, Convolution *, Tensor *, int, size_t *size) {
  return *size = workspace(*y), 0;
}

int cudnnConvolutionForward(void *, const float *alpha, Tensor *xt, void *x, Tensor *wt, void *w, Convolution *c, int algorithm, void *work,
                            size_t size, const float *beta, Tensor *yt, void *y) {
  if (int code = begin(algorithm, work, size, alpha, beta, yt)) return code;
  std::vector<double> sums(yt->count());
  const auto add = [&](size_t i, size_t j, size_t k) { sums[k] += get(x, xt->type, i) * get(w, wt->type, j); };
  if (int code = walk(*xt, *wt, *c, *yt, add)) return code;
  return write(*yt, y, sums);
}
int cudnnConvolutionBackwardData(void *, const float *alpha, Tensor *wt, void *w, Tensor *yt, void *y, Convolution *c, int algorithm,
                                 void *work, size_t size, const float *beta, Tensor *xt, void *x) {
  if (int code = begin(algorithm, work, size, alpha, beta, yt)) return code;
  std::vector<double> sums(xt->count());
  const auto add = [&](size_t i, size_t j, size_t k) { sums[i] += get(y, yt->type, k) * get(w, wt->type, j); };
  if (int code = walk(*xt, *wt, *c, *yt, add)) return code;
  return write(*xt, x, sums);
}
int cudnnConvolutionBackwardFilter(void *, const float *alpha, Tensor *xt, void *x, Tensor *yt, void *y, Convolution *c, int algorithm,
                                   void *work, size_t size, const float *beta, Tensor *wt, void *w) {
  if (int code = begin(algorithm, work, size, alpha, beta, yt)) return code;
  std::vector<double> sums(wt->count());
  const auto add = [&](size_t i, size_t j, size_t k) { sums[j] += get(x, xt->type, i) * get(y, yt->type, k); };
  if (int code = walk(*xt, *wt, *c, *yt, add)) return code;
  return write(*wt, w, sums);
}
}
