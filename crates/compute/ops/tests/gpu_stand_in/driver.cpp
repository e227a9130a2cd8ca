// What the tests need of CUDA's driver, cuBLAS and cuRAND; all work is done when it is asked for.
#include "candle.h"
#include "cuda.h"
#include "cuda_bf16.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <setjmp.h>
#include <string>
#include <sys/mman.h>
#include <ucontext.h>
#include <utility>
#include <vector>

constexpr size_t SHARED = 1 << 14;
extern "C" {
thread_local float shared[SHARED];
}
#include "../../src/cuda/kernels/adamw.cu"
#include "../../src/cuda/kernels/loss.cu"
#include "../../src/cuda/kernels/norm.cu"
#include "../../src/cuda/kernels/pool.cu"
#include "../../src/cuda/kernels/sums.cu"

[[noreturn]] static void fail(const std::string &kernel, const char *what) {
  fprintf(stderr, "gpu stand-in: %s: %s\n", kernel.c_str(), what);
  abort();
}

// ---- kernels by name, called with pointers to their arguments

struct Kernel {
  std::function<void(void **)> run;
  bool barriers; // whether its threads wait for each other; those that do not run faster here
};
template <typename... A, size_t... I> Kernel unpack(void (*kernel)(A...), bool barriers, std::index_sequence<I...>) {
  return {[kernel](void **arguments) { kernel(*(A *)arguments[I]...); }, barriers};
}
template <typename... A> Kernel kernel(void (*kernel)(A...), bool barriers = false) {
  return unpack(kernel, barriers, std::index_sequence_for<A...>());
}

using candle::bf16;
static const std::map<std::string, Kernel> kernels = {
#define ALONE(name) {#name, kernel(name)}
    ALONE(adamw), ALONE(add_bias_bf16), ALONE(add_bias_f32), ALONE(argmax_channels), ALONE(loss_gradient), ALONE(max_pool2),
    ALONE(max_pool2_gradient), ALONE(norm_apply), ALONE(norm_gradient), ALONE(pad_replicate_end), ALONE(pad_replicate_end_gradient),
#define TOGETHER(name) {#name, kernel(name, true)}
    TOGETHER(loss_sums), TOGETHER(norm_gradient_sums), TOGETHER(norm_moments), TOGETHER(norm_statistics), TOGETHER(plane_sums_bf16),
    TOGETHER(plane_sums_f32), TOGETHER(sum_partials_bf16), TOGETHER(sum_partials_f32), TOGETHER(sum_partials_f64),
    {"affine_bf16", kernel(candle::affine<bf16>)},
    {"affine_f32", kernel(candle::affine<float>)},
    {"badd_bf16", kernel(candle::binary<bf16, '+'>)},
    {"badd_f32", kernel(candle::binary<float, '+'>)},
    {"bmul_bf16", kernel(candle::binary<bf16, '*'>)},
    {"bmul_f32", kernel(candle::binary<float, '*'>)},
    {"cast_bf16_f32", kernel(candle::cast<bf16, float>)},
    {"cast_bf16_f64", kernel(candle::cast<bf16, double>)},
    {"cast_f32_bf16", kernel(candle::cast<float, bf16>)},
    {"cast_f32_f64", kernel(candle::cast<float, double>)},
    {"cast_f64_bf16", kernel(candle::cast<double, bf16>)},
    {"cast_f64_f32", kernel(candle::cast<double, float>)},
    {"cast_u8_f64", kernel(candle::cast<uint8_t, double>)},
    {"const_set_bf16", kernel(candle::const_set<bf16>)},
    {"const_set_f32", kernel(candle::const_set<float>)},
    {"copy2d_f32", kernel(candle::copy2d<float>)},
    {"fast_sum_bf16", kernel(candle::sum<bf16>)},
    {"fast_sum_f32", kernel(candle::sum<float>)},
    {"fast_sum_small_bf16", kernel(candle::sum_small<bf16>)},
    {"fast_sum_small_f32", kernel(candle::sum_small<float>)},
    {"ucopy_bf16", kernel(candle::copy<bf16>)},
    {"ucopy_f32", kernel(candle::copy<float>)},
};

// ---- launches

constexpr size_t STACK = 1 << 16;
constexpr unsigned char CANARY = 0xff; // four of them are a NaN
static std::recursive_mutex gpu;       // one kernel runs at a time
static ucontext_t starts[MOST_THREADS];
static jmp_buf turns, places[MOST_THREADS]; // unlike contexts they cost no system call
static std::vector<char> stacks(MOST_THREADS *STACK);
enum State { NEW, WAITING, ENDED };
static State states[MOST_THREADS];
static const Kernel *running;
static void **running_arguments;

void wait_for_block() {
  if (!running->barriers) fail("a kernel", "waits for its block, but is listed as one that does not");
  states[threadIdx.x] = WAITING;
  if (_setjmp(places[threadIdx.x]) == 0) _longjmp(turns, 1);
}

static void thread_main() {
  running->run(running_arguments);
  states[threadIdx.x] = ENDED;
  _longjmp(turns, 1);
}

// Lets a thread go on until it ends or waits.
static void take_turn(unsigned thread) {
  threadIdx = {thread, 0, 0};
  if (_setjmp(turns) != 0) return;
  if (states[thread] == WAITING) _longjmp(places[thread], 1);
  setcontext(&starts[thread]);
}

static void run_block(const std::string &name, unsigned count) {
  for (unsigned t = 0; t < count; ++t) {
    states[t] = NEW;
    getcontext(&starts[t]);
    starts[t].uc_stack.ss_sp = &stacks[t * STACK];
    starts[t].uc_stack.ss_size = STACK;
    makecontext(&starts[t], thread_main, 0);
  }
  for (unsigned waiting = count; waiting > 0;) {
    waiting = 0;
    for (unsigned t = 0; t < count; ++t) {
      take_turn(t);
      waiting += states[t] == WAITING;
    }
    if (waiting != 0 && waiting != count) fail(name, "some threads miss a barrier");
  }
}

extern "C" int cuLaunchKernel(void *function, unsigned blocks, unsigned, unsigned, unsigned count, unsigned, unsigned, unsigned bytes,
                              void *, void **arguments, void **) {
  const std::lock_guard<std::recursive_mutex> guard(gpu);
  const auto &[name, kernel] = *(decltype(kernels)::value_type *)function;
  if (blocks == 0 || count == 0 || count > MOST_THREADS || bytes > sizeof shared) return 1; // CUDA_ERROR_INVALID_VALUE
  gridDim = {blocks, 1, 1};
  running = &kernel;
  running_arguments = arguments;
  memset(shared, CANARY, sizeof shared);
  for (unsigned block = 0; block < blocks; ++block) {
    blockIdx = {block, 0, 0};
    memset(shared, CANARY, bytes);
    if (kernel.barriers)
      run_block(name, count);
    else
      for (threadIdx = {0, 0, 0}; threadIdx.x < count; ++threadIdx.x) kernel.run(arguments);
  }
  for (size_t i = bytes; i < sizeof shared; ++i)
    if (((unsigned char *)shared)[i] != CANARY) fail(name, "writes beyond its shared memory");
  return 0;
}

// ---- memory

using Pointer = unsigned long long;
constexpr size_t PAGE = 4096;
static std::map<Pointer, std::pair<char *, size_t>> mappings;

extern "C" {
// The end of the buffer is the end of the last page before the guard, as far as eight bytes of alignment allow.
int cuMemAllocAsync(Pointer *pointer, size_t size, void *) {
  const std::lock_guard<std::recursive_mutex> guard(gpu);
  if (size == 0) return 1; // CUDA_ERROR_INVALID_VALUE
  const size_t inner = (size + PAGE - 1) / PAGE * PAGE;
  char *mapping = (char *)mmap(nullptr, inner + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED || mprotect(mapping + PAGE, inner, PROT_READ | PROT_WRITE) != 0) return 2; // out of memory
  memset(mapping + PAGE, CANARY, inner);
  *pointer = (Pointer)(mapping + PAGE + inner - size) / 8 * 8;
  mappings[*pointer] = {mapping, inner + 2 * PAGE};
  return 0;
}
int cuMemFreeAsync(Pointer pointer, void *) {
  const std::lock_guard<std::recursive_mutex> guard(gpu);
  const auto found = mappings.find(pointer);
  if (found == mappings.end()) fail("cuMemFreeAsync", "no such buffer");
  munmap(found->second.first, found->second.second);
  mappings.erase(found);
  return 0;
}
int cuMemcpyDtoDAsync_v2(Pointer to, Pointer from, size_t size, void *) { return memcpy((void *)to, (void *)from, size), 0; }
int cuMemcpyDtoHAsync_v2(void *to, Pointer from, size_t size, void *) { return memcpy(to, (void *)from, size), 0; }
int cuMemcpyHtoDAsync_v2(Pointer to, const void *from, size_t size, void *) { return memcpy((void *)to, from, size), 0; }
int cuMemsetD8Async(Pointer to, unsigned char value, size_t size, void *) { return memset((void *)to, value, size), 0; }

// ---- the rest: one device, one module of all kernels, and nothing to wait for

static thread_local void *context;
static void *const SOMETHING = &context;
int cuInit(unsigned) { return 0; }
int cuDeviceGet(int *device, int) { return *device = 0, 0; }
int cuDeviceGetAttribute(int *value, int, int) { return *value = 1, 0; } // memory pools are supported
int cuDevicePrimaryCtxRetain(void **context, int) { return *context = SOMETHING, 0; }
int cuDevicePrimaryCtxRelease_v2(int) { return 0; }
int cuCtxGetCurrent(void **current) { return *current = context, 0; }
int cuCtxSetCurrent(void *current) { return context = current, 0; }
int cuGetErrorString(int, const char **text) { return *text = "refused by the stand-in", 0; }
// The translation that .ci/nvcc-check puts into PTX is for another GPU at a thread's first call; then the PTX itself must come. Later
// calls bring nothing but the translation.
int cuModuleLoadData(void **module, const void *image) {
  static thread_local int call = 0;
  const bool translated = !strncmp((const char *)image, "STAND-IN", 8);
  const int now = call++;
  if (translated == (now == 1)) fail("cuModuleLoadData", translated ? "PTX expected" : "a translation expected");
  return now == 0 ? 209 : (*module = SOMETHING, 0);
}
int cuModuleUnload(void *) { return 0; }
int cuModuleGetFunction(void **function, void *, const char *name) {
  const auto found = kernels.find(name);
  if (found == kernels.end()) fail(name, "no such kernel in the stand-in");
  return *function = (void *)&*found, 0;
}
int cuEventCreate(void **event, unsigned) { return *event = SOMETHING, 0; }
int cuEventDestroy_v2(void *) { return 0; }
int cuEventRecord(void *, void *) { return 0; }
int cuStreamWaitEvent(void *, void *, unsigned) { return 0; }
int cuStreamSynchronize(void *) { return 0; }
int cublasCreate_v2(void **handle) { return *handle = SOMETHING, 0; }
int cublasDestroy_v2(void *) { return 0; }
int cublasSetStream_v2(void *, void *) { return 0; }
int curandCreateGenerator(void **generator, int) { return *generator = SOMETHING, 0; }
int curandDestroyGenerator(void *) { return 0; }
int curandSetStream(void *, void *) { return 0; }
int curandSetPseudoRandomGeneratorSeed(void *, unsigned long long) { return 0; }
}
