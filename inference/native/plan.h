// What the two halves of the kernel share: chains.cpp fills a plan, tree_attention.cpp reads it.

#pragma once

#include <cstdint>

extern "C" {

struct Plan {            // one per forward
  int64_t num_spans, num_tokens, num_chains, num_entries;
  int64_t slots_stride;  // elements between the rows of slots
  const int64_t* slots;  // [spans, >= longest path]
  const int64_t* positions;  // [tokens]
  int64_t* leader;       // [chains] span whose slots are read
  int64_t* first;        // [chains] first position
  int64_t* num_keys;     // [chains]
  int64_t* entry_begin;  // [chains + 1] members of chain c: entries entry_begin[c] .. [c + 1] - 1
  int64_t* member;       // [entries] packed query token
  int64_t* token_begin;  // [tokens + 1] entries of a token: token_entry[token_begin[t]] ...
  int64_t* token_entry;  // [entries]
};

}  // extern "C"
