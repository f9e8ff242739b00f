// Attention of packed query tokens over paths of KV slots that share prefixes, for a CPU.
//
// A chain is a run of positions [first, first + num_keys) on the path of one span (its leader) that the
// paths of one or more query tokens (its members) have in common. Each chain is read once for all its
// members; partial results are merged by their log-sum-exp in a fixed order, so results do not depend on
// the number of threads. All arithmetic is float32.
//
//   tile: 64 keys. K is transposed to [D][64] and V widened to [64][Dv] once per tile, then used by all
//   queries of the chain, four at a time: scores in registers, online softmax, weighted values.
//
// The caller (tree_attention.py) checks shapes and owns all memory.

#include "plan.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

constexpr int TILE = 64;    // keys
constexpr int GROUP = 4;    // queries that share the registers
constexpr int BLOCK = 128;  // query vectors of one unit of work
constexpr float HIDDEN = -1e30f;

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t i16 __attribute__((vector_size(64)));
typedef uint16_t u16 __attribute__((vector_size(32)));

inline v16 load(const float* p) { v16 x; std::memcpy(&x, p, 64); return x; }
inline void store(float* p, v16 x) { std::memcpy(p, &x, 64); }
inline v16 splat(float x) { return x - v16{}; }

// exp(x) for x <= 0, relative error below 2e-7 (Cephes polynomial); 0 below -87.
inline v16 exp16(v16 x) {
  const i16 keep = x > -87.0f;
  x = keep ? x : splat(0.0f);
  const v16 shifted = x * 1.44269504f + 12582912.0f;  // rounds to the nearest integer
  const v16 n = shifted - 12582912.0f;
  const v16 r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  v16 y = splat(1.9875691500e-4f);
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * (r * r) + r + 1.0f;
  const i16 bits = (i16)y + (__builtin_convertvector(n, i16) << 23);
  return keep ? (v16)bits : splat(0.0f);
}

// Keeps a value in a register; otherwise the compiler loads it again for each product.
#if defined(__AVX512F__)
inline void hold(v16& x) { asm("" : "+v"(x)); }
#else
inline void hold(v16&) {}
#endif

// Lanes i and i ^ STEP change places.
template <int STEP>
inline v16 swapped(v16 x) {
  i16 index;
  for (int i = 0; i < 16; ++i) index[i] = i ^ STEP;
  return __builtin_shuffle(x, index);
}

inline float sum16(v16 x) {
  x += swapped<8>(x);
  x += swapped<4>(x);
  x += swapped<2>(x);
  x += swapped<1>(x);
  return x[0];
}

inline v16 larger(v16 a, v16 b) { return a > b ? a : b; }

inline float max16(v16 x) {
  x = larger(x, swapped<8>(x));
  x = larger(x, swapped<4>(x));
  x = larger(x, swapped<2>(x));
  x = larger(x, swapped<1>(x));
  return x[0];
}

inline float widen(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}
inline float widen(float x) { return x; }

inline void narrow(float x, float* out) { *out = x; }
inline void narrow(float x, uint16_t* out) {  // round to nearest, ties to even; NaN stays NaN
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  *out = x != x ? 0x7fc0 : static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

inline v16 load16(const float* p) { return load(p); }
inline v16 load16(const uint16_t* p) {
  u16 x;
  std::memcpy(&x, p, 32);
  return (v16)(__builtin_convertvector(x, i16) << 16);
}

template <int STEP>
inline void exchange(v16* r) {
  i16 low, high;
  for (int k = 0; k < 16; ++k) {
    low[k] = (k & STEP) ? 16 + k - STEP : k;
    high[k] = (k & STEP) ? 16 + k : k + STEP;
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i)
    if (!(i & STEP)) {
      const v16 a = r[i], b = r[i + STEP];
      r[i] = __builtin_shuffle(a, b, low);
      r[i + STEP] = __builtin_shuffle(a, b, high);
    }
}

// 16x16 block: out[j][i] = in[i][j], in four rounds of pairwise exchange.
inline void transpose16(v16* r) {
  exchange<8>(r);
  exchange<4>(r);
  exchange<2>(r);
  exchange<1>(r);
}

}  // namespace

extern "C" {

struct Call {            // one per layer
  int64_t num_heads, num_kv_heads, width, value_width;
  int64_t query_head_stride, query_token_stride;  // elements
  int64_t kv_head_stride, value_head_stride;      // elements
  int64_t window;        // 0 = none
  int64_t is_bfloat16;   // query and output
  int64_t keys_are_bfloat16, values_are_bfloat16;
  int64_t num_threads;
  float scale, softcap;  // softcap 0 = none
  const void *query, *keys, *values;
  const float* sinks;    // [heads] or null
  void* out;             // [tokens, heads, value_width]
};

}  // extern "C"

namespace {

struct Scratch {
  std::vector<float> query, keys, values;         // float32 arithmetic
  std::vector<uint32_t> query2, keys2, values2;   // bfloat16 pairs
  std::vector<float> acc, top, total, scores;
};

struct Unit {
  int64_t chain, begin, end, kv_head;  // entries [begin, end)
};

inline const int64_t* slots_of(const Plan& p, const Unit& u, int64_t key) {
  return p.slots + p.leader[u.chain] * p.slots_stride + p.first[u.chain] + key;
}

// keys of a tile as [width][TILE]; columns behind `count` are 0
template <typename T>
void fill_keys(const Call& c, const Unit& u, const int64_t* slots, int count, float* out) {
  const T* keys = static_cast<const T*>(c.keys) + u.kv_head * c.kv_head_stride;
  const int width = c.width;
  for (int block = 0; block < TILE; block += 16) {
    if (block >= count) {
      for (int d = 0; d < width; ++d) std::memset(out + d * TILE + block, 0, 64);
      continue;
    }
    for (int d = 0; d < width; d += 16) {
      v16 rows[16];
      const int part = std::min(16, width - d);
      for (int j = 0; j < 16; ++j) {
        rows[j] = v16{};
        if (block + j >= count) continue;
        const T* from = keys + slots[block + j] * width + d;
        if (part == 16) rows[j] = load16(from);
        else
          for (int i = 0; i < part; ++i) rows[j][i] = widen(from[i]);
      }
      transpose16(rows);
      for (int i = 0; i < part; ++i) store(out + (d + i) * TILE + block, rows[i]);
    }
  }
}

// values of a tile as [count][padded]
template <typename T>
void fill_values(const Call& c, const Unit& u, const int64_t* slots, int count, int padded, float* out) {
  const T* values = static_cast<const T*>(c.values) + u.kv_head * c.value_head_stride;
  const int width = c.value_width;
  for (int j = 0; j < count; ++j) {
    const T* from = values + slots[j] * width;
    float* to = out + j * padded;
    int d = 0;
    for (; d + 16 <= width; d += 16) store(to + d, load16(from + d));
    for (; d < width; ++d) to[d] = widen(from[d]);
  }
}

// scores[GROUP][TILE] of four query vectors
inline void score_group(const float* query, int width, const float* keys, float* scores) {
  v16 acc[GROUP][4] = {};
  for (int d = 0; d < width; ++d) {
    const float* k = keys + d * TILE;
    v16 k0 = load(k), k1 = load(k + 16), k2 = load(k + 32), k3 = load(k + 48);
    hold(k0), hold(k1), hold(k2), hold(k3);
    for (int q = 0; q < GROUP; ++q) {
      const v16 x = splat(query[q * width + d]);
      acc[q][0] += x * k0;
      acc[q][1] += x * k1;
      acc[q][2] += x * k2;
      acc[q][3] += x * k3;
    }
  }
  for (int q = 0; q < GROUP; ++q)
    for (int b = 0; b < 4; ++b) store(scores + q * TILE + 16 * b, acc[q][b]);
}

// acc[q][0..16*BLOCKS) += sum_j weights[q][j] * values[j]
template <int BLOCKS>
inline void weigh(const float* weights, int count, const float* values, int padded, float* out) {
  v16 acc[GROUP][BLOCKS];
  for (int q = 0; q < GROUP; ++q)
    for (int b = 0; b < BLOCKS; ++b) acc[q][b] = load(out + q * padded + 16 * b);
  for (int j = 0; j < count; ++j) {
    v16 v[BLOCKS];
    for (int b = 0; b < BLOCKS; ++b) {
      v[b] = load(values + j * padded + 16 * b);
      hold(v[b]);
    }
    for (int q = 0; q < GROUP; ++q) {
      const v16 w = splat(weights[q * TILE + j]);
      for (int b = 0; b < BLOCKS; ++b) acc[q][b] += w * v[b];
    }
  }
  for (int q = 0; q < GROUP; ++q)
    for (int b = 0; b < BLOCKS; ++b) store(out + q * padded + 16 * b, acc[q][b]);
}

void weigh_all(const float* weights, int count, const float* values, int padded, float* out) {
  int d = 0;
  for (; d + 64 <= padded; d += 64) weigh<4>(weights, count, values + d, padded, out + d);
  for (; d + 32 <= padded; d += 32) weigh<2>(weights, count, values + d, padded, out + d);
  for (; d < padded; d += 16) weigh<1>(weights, count, values + d, padded, out + d);
}

// Softmax of one row of scores in place, online: rescales acc, top and total.
inline void soften(float* scores, int low, int high, float softcap, float* acc, int padded, float* top, float* total) {
  if (softcap > 0)
    for (int j = low; j < high; ++j) scores[j] = softcap * std::tanh(scores[j] / softcap);
  for (int j = 0; j < low; ++j) scores[j] = HIDDEN;
  for (int j = std::max(high, 0); j < TILE; ++j) scores[j] = HIDDEN;
  const v16 s0 = load(scores), s1 = load(scores + 16), s2 = load(scores + 32), s3 = load(scores + 48);
  const float highest = std::max(*top, max16(larger(larger(s0, s1), larger(s2, s3))));
  if (highest > *top) {
    const float factor = *total > 0 ? std::exp(*top - highest) : 0.0f;
    for (int d = 0; d < padded; d += 16) store(acc + d, load(acc + d) * factor);
    *total *= factor;
    *top = highest;
  }
  const v16 e0 = exp16(s0 - highest), e1 = exp16(s1 - highest);
  const v16 e2 = exp16(s2 - highest), e3 = exp16(s3 - highest);
  store(scores, e0);
  store(scores + 16, e1);
  store(scores + 32, e2);
  store(scores + 48, e3);
  *total += sum16((e0 + e1) + (e2 + e3));
}

template <typename T>
void fill_queries(const Call& c, const Plan& p, const Unit& u, int per_kv, int padded_vectors, Scratch& s) {
  const T* query = static_cast<const T*>(c.query);
  float* to = s.query.data();
  for (int64_t e = u.begin; e < u.end; ++e)
    for (int n = 0; n < per_kv; ++n, to += c.width) {
      const T* from = query + (u.kv_head * per_kv + n) * c.query_head_stride + p.member[e] * c.query_token_stride;
      for (int d = 0; d < c.width; ++d) to[d] = widen(from[d]) * c.scale;
    }
  std::fill(to, s.query.data() + padded_vectors * c.width, 0.0f);
}

// float32 arithmetic, whatever the stored type.
struct Wide {
  static void prepare(const Call& c, const Plan& p, const Unit& u, int per_kv, int vectors, int padded, Scratch& s) {
    s.query.resize(vectors * c.width);
    s.keys.resize(TILE * c.width);
    s.values.assign(TILE * padded, 0.0f);
    if (c.is_bfloat16) fill_queries<uint16_t>(c, p, u, per_kv, vectors, s);
    else fill_queries<float>(c, p, u, per_kv, vectors, s);
  }
  static void fill(const Call& c, const Unit& u, const int64_t* slots, int count, int padded, Scratch& s) {
    if (c.keys_are_bfloat16) fill_keys<uint16_t>(c, u, slots, count, s.keys.data());
    else fill_keys<float>(c, u, slots, count, s.keys.data());
    if (c.values_are_bfloat16) fill_values<uint16_t>(c, u, slots, count, padded, s.values.data());
    else fill_values<float>(c, u, slots, count, padded, s.values.data());
  }
  static void score(const Call& c, int vector, Scratch& s) {
    score_group(&s.query[vector * c.width], c.width, s.keys.data(), s.scores.data());
  }
  static void weigh(int vector, int count, int padded, Scratch& s) {
    weigh_all(s.scores.data(), count, s.values.data(), padded, &s.acc[vector * padded]);
  }
};

#ifdef __AVX512BF16__
// Products of bfloat16 pairs with float32 sums; softmax weights are rounded to bfloat16 (8 bits).
struct Pairs {
  static int num_pairs(const Call& c) { return (c.width + 31) / 32 * 16; }

  static void prepare(const Call& c, const Plan& p, const Unit& u, int per_kv, int vectors, int padded, Scratch& s) {
    const int pairs = num_pairs(c);
    s.query2.assign(vectors * pairs, 0);
    s.keys2.resize(TILE * pairs);
    s.values2.assign(TILE / 2 * padded, 0);
    uint32_t* to = s.query2.data();
    for (int64_t e = u.begin; e < u.end; ++e)
      for (int n = 0; n < per_kv; ++n, to += pairs)
        std::memcpy(to, static_cast<const uint16_t*>(c.query) + (u.kv_head * per_kv + n) * c.query_head_stride + p.member[e] * c.query_token_stride, 2 * c.width);
  }

  static void fill(const Call& c, const Unit& u, const int64_t* slots, int count, int padded, Scratch& s) {
    const uint16_t* keys = static_cast<const uint16_t*>(c.keys) + u.kv_head * c.kv_head_stride;
    const uint16_t* values = static_cast<const uint16_t*>(c.values) + u.kv_head * c.value_head_stride;
    const int width = c.width, pairs = num_pairs(c);
    for (int block = 0; block < TILE; block += 16)
      for (int d = 0; d < pairs; d += 16) {
        v16 rows[16];
        for (int j = 0; j < 16; ++j) {
          rows[j] = v16{};
          if (block + j < count) std::memcpy(&rows[j], keys + slots[block + j] * width + 2 * d, 2 * std::min(32, width - 2 * d));
        }
        transpose16(rows);
        for (int i = 0; i < 16; ++i) std::memcpy(&s.keys2[(d + i) * TILE + block], &rows[i], 64);
      }
    const int value_width = c.value_width;
    for (int j = 0; j < count; j += 2) {
      const uint16_t* low = values + slots[j] * value_width;
      const uint16_t* high = j + 1 < count ? values + slots[j + 1] * value_width : nullptr;
      uint32_t* to = &s.values2[j / 2 * padded];
      for (int d = 0; d < value_width; ++d) to[d] = low[d] | (high ? static_cast<uint32_t>(high[d]) << 16 : 0);
    }
  }

  static void score(const Call& c, int vector, Scratch& s) {
    const int pairs = num_pairs(c);
    const uint32_t *query = &s.query2[vector * pairs], *keys = s.keys2.data();
    float* scores = s.scores.data();
    __m512 acc[GROUP][4];
    for (int q = 0; q < GROUP; ++q)
      for (int b = 0; b < 4; ++b) acc[q][b] = _mm512_setzero_ps();
    for (int d = 0; d < pairs; ++d) {
      __m512i k[4];
      for (int b = 0; b < 4; ++b) {
        k[b] = _mm512_loadu_si512(keys + d * TILE + 16 * b);
        asm("" : "+v"(k[b]));
      }
      for (int q = 0; q < GROUP; ++q) {
        const __m512i x = _mm512_set1_epi32(query[q * pairs + d]);
        for (int b = 0; b < 4; ++b) acc[q][b] = _mm512_dpbf16_ps(acc[q][b], (__m512bh)x, (__m512bh)k[b]);
      }
    }
    for (int q = 0; q < GROUP; ++q)
      for (int b = 0; b < 4; ++b) store(scores + q * TILE + 16 * b, (v16)acc[q][b] * c.scale);
  }

  template <int BLOCKS>
  static void weigh_blocks(const uint32_t* weights, int num_pairs, const uint32_t* values, int padded, float* out) {
    __m512 acc[GROUP][BLOCKS];
    for (int q = 0; q < GROUP; ++q)
      for (int b = 0; b < BLOCKS; ++b) acc[q][b] = _mm512_loadu_ps(out + q * padded + 16 * b);
    for (int j = 0; j < num_pairs; ++j) {
      __m512i v[BLOCKS];
      for (int b = 0; b < BLOCKS; ++b) {
        v[b] = _mm512_loadu_si512(values + j * padded + 16 * b);
        asm("" : "+v"(v[b]));
      }
      for (int q = 0; q < GROUP; ++q) {
        const __m512i w = _mm512_set1_epi32(weights[q * TILE / 2 + j]);
        for (int b = 0; b < BLOCKS; ++b) acc[q][b] = _mm512_dpbf16_ps(acc[q][b], (__m512bh)w, (__m512bh)v[b]);
      }
    }
    for (int q = 0; q < GROUP; ++q)
      for (int b = 0; b < BLOCKS; ++b) _mm512_storeu_ps(out + q * padded + 16 * b, acc[q][b]);
  }

  static void weigh(int vector, int count, int padded, Scratch& s) {
    alignas(64) uint32_t weights[GROUP * TILE / 2];
    for (int i = 0; i < GROUP * TILE; i += 32) {
      const __m512bh pair = _mm512_cvtne2ps_pbh((__m512)load(&s.scores[i + 16]), (__m512)load(&s.scores[i]));
      std::memcpy(&weights[i / 2], &pair, 64);
    }
    const int pairs = (count + 1) / 2;
    const uint32_t* values = s.values2.data();
    float* out = &s.acc[vector * padded];
    int d = 0;
    for (; d + 64 <= padded; d += 64) weigh_blocks<4>(weights, pairs, values + d, padded, out + d);
    for (; d + 32 <= padded; d += 32) weigh_blocks<2>(weights, pairs, values + d, padded, out + d);
    for (; d < padded; d += 16) weigh_blocks<1>(weights, pairs, values + d, padded, out + d);
  }
};
#endif

template <typename Math>
void run_unit(const Call& c, const Plan& p, const Unit& u, Scratch& s, float* partial, float* lse) {
  const int per_kv = c.num_heads / c.num_kv_heads;
  const int padded = (c.value_width + 15) / 16 * 16;
  const int vectors = (u.end - u.begin) * per_kv;
  const int padded_vectors = (vectors + GROUP - 1) / GROUP * GROUP;
  Math::prepare(c, p, u, per_kv, padded_vectors, padded, s);
  s.acc.assign(padded_vectors * padded, 0.0f);
  s.top.assign(padded_vectors, HIDDEN);
  s.total.assign(padded_vectors, 0.0f);
  s.scores.resize(GROUP * TILE);
  const int64_t start = p.first[u.chain];
  int64_t lowest = p.num_keys[u.chain], highest = 0;  // keys that any query of the unit sees
  for (int64_t e = u.begin; e < u.end; ++e) {
    const int64_t position = p.positions[p.member[e]];
    highest = std::max(highest, std::min(p.num_keys[u.chain], position + 1 - start));
    lowest = std::min(lowest, c.window ? std::max<int64_t>(0, position - c.window + 1 - start) : 0);
  }
  for (int64_t key = lowest; key < highest; key += TILE) {
    const int count = std::min<int64_t>(TILE, highest - key);
    Math::fill(c, u, slots_of(p, u, key), count, padded, s);
    for (int v = 0; v < padded_vectors; v += GROUP) {
      int low[GROUP], high[GROUP], most = 0;
      for (int q = 0; q < GROUP; ++q) {
        low[q] = high[q] = 0;
        if (v + q >= vectors) continue;
        const int64_t position = p.positions[p.member[u.begin + (v + q) / per_kv]];
        const int64_t from = c.window ? position - c.window + 1 - start - key : 0;
        low[q] = std::clamp<int64_t>(from, 0, count);
        high[q] = std::clamp<int64_t>(position + 1 - start - key, 0, count);
        if (low[q] < high[q]) most = std::max(most, high[q]);
      }
      if (!most) continue;
      Math::score(c, v, s);
      for (int q = 0; q < GROUP; ++q) {
        if (low[q] < high[q])
          soften(&s.scores[q * TILE], low[q], high[q], c.softcap, &s.acc[(v + q) * padded], padded, &s.top[v + q], &s.total[v + q]);
        else
          std::fill_n(&s.scores[q * TILE], TILE, 0.0f);
      }
      Math::weigh(v, most, padded, s);
    }
  }
  for (int v = 0; v < vectors; ++v) {
    const int64_t entry = u.begin + v / per_kv, head = u.kv_head * per_kv + v % per_kv;
    float* to = partial + (entry * c.num_heads + head) * c.value_width;
    const float inverse = s.total[v] > 0 ? 1 / s.total[v] : 0.0f;
    for (int d = 0; d < c.value_width; ++d) to[d] = s.acc[v * padded + d] * inverse;
    lse[entry * c.num_heads + head] = s.total[v] > 0 ? s.top[v] + std::log(s.total[v]) : -std::numeric_limits<float>::infinity();
  }
}

template <typename T>
void merge_token(const Call& c, const Plan& p, int64_t token, const float* partial, const float* lse) {
  static thread_local std::vector<float> kept;
  kept.resize(c.value_width);
  float* sum = kept.data();
  const int value_width = c.value_width;
  const int64_t begin = p.token_begin[token], end = p.token_begin[token + 1];
  for (int64_t head = 0; head < c.num_heads; ++head) {
    float top = c.sinks ? c.sinks[head] : -std::numeric_limits<float>::infinity();
    for (int64_t i = begin; i < end; ++i) top = std::max(top, lse[p.token_entry[i] * c.num_heads + head]);
    float total = c.sinks ? std::exp(c.sinks[head] - top) : 0.0f;
    std::fill_n(sum, value_width, 0.0f);
    for (int64_t i = begin; i < end; ++i) {
      const int64_t entry = p.token_entry[i] * c.num_heads + head;
      const float weight = std::exp(lse[entry] - top);
      total += weight;
      for (int d = 0; d < value_width; ++d) sum[d] += weight * partial[entry * value_width + d];
    }
    T* to = static_cast<T*>(c.out) + (token * c.num_heads + head) * value_width;
    for (int d = 0; d < value_width; ++d) narrow(sum[d] / total, to + d);
  }
}

}  // namespace

extern "C" {

void attend(const Plan* plan, const Call* call) {
  const Plan& p = *plan;
  const Call& c = *call;
  static thread_local std::vector<float> partial, lse;
  if (partial.size() < static_cast<size_t>(p.num_entries * c.num_heads * c.value_width)) partial.resize(p.num_entries * c.num_heads * c.value_width);
  if (lse.size() < static_cast<size_t>(p.num_entries * c.num_heads)) lse.resize(p.num_entries * c.num_heads);
  const int64_t step = std::max<int64_t>(1, BLOCK / (c.num_heads / c.num_kv_heads));
  std::vector<Unit> units;
  for (int64_t chain = 0; chain < p.num_chains; ++chain)
    for (int64_t begin = p.entry_begin[chain]; begin < p.entry_begin[chain + 1]; begin += step)
      for (int64_t head = 0; head < c.num_kv_heads; ++head)
        units.push_back({chain, begin, std::min(begin + step, p.entry_begin[chain + 1]), head});
  float *partials = partial.data(), *sums = lse.data();
  const int threads = c.num_threads;
  auto* run = run_unit<Wide>;
#ifdef __AVX512BF16__
  if (c.is_bfloat16 && c.keys_are_bfloat16 && c.values_are_bfloat16) run = run_unit<Pairs>;
#endif
#pragma omp parallel num_threads(threads)
  {
    static thread_local Scratch scratch;
    Scratch& s = scratch;
#pragma omp for schedule(dynamic)
    for (size_t i = 0; i < units.size(); ++i) run(c, p, units[i], s, partials, sums);
  }
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t token = 0; token < p.num_tokens; ++token) {
    if (c.is_bfloat16) merge_token<uint16_t>(c, p, token, partials, sums);
    else merge_token<float>(c, p, token, partials, sums);
  }
}

}  // extern "C"
