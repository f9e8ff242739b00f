// Small row-wise operations that are called once or twice per layer: storing new keys and values,
// and the root-mean-square norm. Rounding as in the torch operations that they replace.

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

inline float widen(float x) { return x; }
inline float widen(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

template <typename T>
inline T narrow(float x);
template <>
inline float narrow<float>(float x) { return x; }
template <>
inline uint16_t narrow<uint16_t>(float x) {  // round to nearest, ties to even
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  const uint16_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return x != x ? 0x7fc0 : rounded;
}

template <typename T>
void norm(const T* in, const T* weight, T* out, int64_t rows, int64_t width, float epsilon) {
#pragma omp parallel for schedule(static) if (rows * width > 65536)
  for (int64_t row = 0; row < rows; ++row) {
    const T* x = in + row * width;
    T* y = out + row * width;
    float sums[16] = {};
    int64_t i = 0;
    for (; i + 16 <= width; i += 16)
      for (int k = 0; k < 16; ++k) sums[k] += widen(x[i + k]) * widen(x[i + k]);
    float sum = 0;
    for (; i < width; ++i) sum += widen(x[i]) * widen(x[i]);
    for (int k = 0; k < 16; ++k) sum += sums[k];
    const float factor = 1 / std::sqrt(sum / width + epsilon);
    for (i = 0; i < width; ++i)
      y[i] = narrow<T>(widen(weight[i]) * widen(narrow<T>(widen(x[i]) * factor)));
  }
}

}  // namespace

extern "C" {

// out = weight * round(x / rms(x)) of contiguous rows
void rms_norm(const void* in, const void* weight, void* out, int64_t rows, int64_t width, float epsilon, int64_t is_bfloat16) {
  if (is_bfloat16)
    norm(static_cast<const uint16_t*>(in), static_cast<const uint16_t*>(weight), static_cast<uint16_t*>(out), rows, width, epsilon);
  else
    norm(static_cast<const float*>(in), static_cast<const float*>(weight), static_cast<float*>(out), rows, width, epsilon);
}

// Copies `tokens` vectors of each head to their slots; sizes and strides in bytes.
void write_slots(const char* from, char* to, const int64_t* slots, int64_t heads, int64_t tokens, int64_t vector_bytes, int64_t from_head, int64_t from_token, int64_t to_head) {
  for (int64_t head = 0; head < heads; ++head)
    for (int64_t token = 0; token < tokens; ++token)
      std::memcpy(to + head * to_head + slots[token] * vector_bytes, from + head * from_head + token * from_token, vector_bytes);
}

}  // extern "C"
