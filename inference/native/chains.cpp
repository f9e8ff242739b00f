// Finds which runs of positions query tokens have in common, from the slots alone: equal leading slots
// mean a common prefix.

#include "plan.h"

#include <algorithm>
#include <vector>

namespace {

// Depth-first over groups of spans with a common prefix; emits chains and their members.
struct Chains {
  Plan& p;
  const int64_t* lengths;
  const int64_t* offsets;  // packed index of the first token of a span
  int64_t min_saved;

  void emit(int64_t leader, int64_t first, int64_t last, const int64_t* begin, const int64_t* end) {
    if (last <= first) return;
    p.leader[p.num_chains] = leader;
    p.first[p.num_chains] = first;
    p.num_keys[p.num_chains] = last - first;
    for (const int64_t* span = begin; span != end; ++span) p.member[p.num_entries++] = offsets[*span];
    p.entry_begin[++p.num_chains] = p.num_entries;
  }

  // Spans [begin, end) agree on their slots before `depth`; keys from `pending` on are not covered yet.
  void visit(int64_t* begin, int64_t* end, int64_t pending, int64_t depth) {
    const int64_t leader = *begin, num = end - begin;
    const int64_t* slots = p.slots + leader * p.slots_stride;
    if (num == 1) return emit(leader, pending, lengths[leader], begin, end);
    int64_t common = lengths[leader];
    for (int64_t* span = begin; span != end; ++span) {
      const int64_t* other = p.slots + *span * p.slots_stride;
      common = std::min(common, lengths[*span]);
      int64_t at = depth;
      while (at < common && other[at] == slots[at]) ++at;
      common = at;
    }
    if ((num - 1) * (common - pending) >= min_saved) {
      emit(leader, pending, common, begin, end);
      pending = common;
    }
    int64_t* rest = std::partition(begin, end, [&](int64_t span) { return lengths[span] == common; });
    for (int64_t* span = begin; span != rest; ++span) emit(*span, pending, common, span, span + 1);
    std::sort(rest, end, [&](int64_t a, int64_t b) {
      const int64_t x = p.slots[a * p.slots_stride + common], y = p.slots[b * p.slots_stride + common];
      return x != y ? x < y : a < b;
    });
    while (rest != end) {
      int64_t* stop = rest;
      const int64_t slot = p.slots[*rest * p.slots_stride + common];
      while (stop != end && p.slots[*stop * p.slots_stride + common] == slot) ++stop;
      visit(rest, stop, pending, common);
      rest = stop;
    }
  }
};

}  // namespace

extern "C" {

// Fills the chains of `plan`: spans with one token share prefixes, each longer span is a chain of its own.
void plan_chains(Plan* plan, const int64_t* lengths, const int64_t* counts, int64_t min_saved) {
  std::vector<int64_t> offsets(plan->num_spans), rows;
  int64_t packed = 0;
  for (int64_t span = 0; span < plan->num_spans; packed += counts[span++]) {
    offsets[span] = packed;
    if (counts[span] == 1) rows.push_back(span);
  }
  plan->num_chains = plan->num_entries = plan->entry_begin[0] = 0;
  Chains chains{*plan, lengths, offsets.data(), min_saved};
  std::sort(rows.begin(), rows.end(), [&](int64_t a, int64_t b) {
    const int64_t x = plan->slots[a * plan->slots_stride], y = plan->slots[b * plan->slots_stride];
    return x != y ? x < y : a < b;
  });
  for (size_t begin = 0, end; begin < rows.size(); begin = end) {
    for (end = begin; end < rows.size() && plan->slots[rows[end] * plan->slots_stride] == plan->slots[rows[begin] * plan->slots_stride];) ++end;
    chains.visit(rows.data() + begin, rows.data() + end, 0, 0);
  }
  for (int64_t span = 0; span < plan->num_spans; ++span) {
    if (counts[span] == 1) continue;
    plan->leader[plan->num_chains] = span;
    plan->first[plan->num_chains] = 0;
    plan->num_keys[plan->num_chains] = lengths[span];
    for (int64_t i = 0; i < counts[span]; ++i) plan->member[plan->num_entries++] = offsets[span] + i;
    plan->entry_begin[++plan->num_chains] = plan->num_entries;
  }
  std::fill_n(plan->token_begin, plan->num_tokens + 1, 0);
  for (int64_t e = 0; e < plan->num_entries; ++e) ++plan->token_begin[plan->member[e] + 1];
  for (int64_t t = 0; t < plan->num_tokens; ++t) plan->token_begin[t + 1] += plan->token_begin[t];
  std::vector<int64_t> next(plan->token_begin, plan->token_begin + plan->num_tokens);
  for (int64_t e = 0; e < plan->num_entries; ++e) plan->token_entry[next[plan->member[e]]++] = e;
}

}  // extern "C"
