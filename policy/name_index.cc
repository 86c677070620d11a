#include "policy/name_index.h"

#include <algorithm>
#include <bit>
#include <map>
#include <utility>

namespace oakum::policy {

namespace {

constexpr std::string_view kWildcard = "*.";
constexpr size_t kMaxName = 255;  // RFC 1035 section 2.3.4

// FNV-1a over the bytes of a name from its last to its first, so that one pass gives the hash of
// every name that it is below.
constexpr uint64_t kHashStart = 0xcbf2'9ce4'8422'2325;
constexpr uint64_t kHashPrime = 0x0000'0100'0000'01b3;

uint64_t AddToHash(uint64_t hash, char byte) {
  return (hash ^ static_cast<uint8_t>(byte)) * kHashPrime;
}

uint64_t HashOf(std::string_view name) {
  uint64_t hash = kHashStart;
  for (size_t i = name.size(); i-- > 0;) {
    hash = AddToHash(hash, name[i]);
  }
  return hash;
}

// The last multiplication mixes upwards only; slots are taken by the low bits.
size_t SlotOf(uint64_t hash, size_t slots) { return (hash ^ (hash >> 32)) & (slots - 1); }

bool Beats(std::span<const AddressRule> rules, uint32_t a, uint32_t b) {
  const uint32_t rank_a = NameRank(rules[a]);
  const uint32_t rank_b = NameRank(rules[b]);
  if (rank_a != rank_b) {
    return rank_a > rank_b;
  }
  return BeatsAtSamePrefix(rules[a], rules[b]) || (a < b && !BeatsAtSamePrefix(rules[b], rules[a]));
}

}  // namespace

uint32_t NameRank(const AddressRule& rule) {
  return rule.domain.starts_with(kWildcard)
             ? static_cast<uint32_t>(std::ranges::count(rule.domain, '.'))
             : kMaxName + 1;
}

NameIndex NameIndex::Create(std::span<const AddressRule> rules, std::span<const uint32_t> ids,
                            RuleIndex& index) {
  struct Ids {
    std::vector<uint32_t> exact;
    std::vector<uint32_t> below;
  };
  std::map<std::string_view, Ids> by_name;
  for (const uint32_t id : ids) {
    std::string_view domain = rules[id].domain;
    if (domain.starts_with(kWildcard)) {
      domain.remove_prefix(kWildcard.size());
      by_name[domain].below.push_back(id);
    } else {
      by_name[domain].exact.push_back(id);
    }
  }
  NameIndex names;
  if (by_name.empty()) {
    return names;
  }
  names.slots_.assign(std::bit_ceil(by_name.size() * 2), kNone);
  names.entries_.reserve(by_name.size());
  const auto add = [&](std::span<const uint32_t> some) {
    return some.empty() ? RuleIndex::Tree() : index.Add(rules, some);
  };
  for (const auto& [name, at_name] : by_name) {
    const uint64_t hash = HashOf(name);
    size_t slot = SlotOf(hash, names.slots_.size());
    while (names.slots_[slot] != kNone) {
      slot = (slot + 1) & (names.slots_.size() - 1);
    }
    names.slots_[slot] = static_cast<uint32_t>(names.entries_.size());
    names.entries_.push_back({.hash = hash,
                              .name = std::string(name),
                              .exact = add(at_name.exact),
                              .below = add(at_name.below)});
  }
  return names;
}

const NameIndex::Entry* NameIndex::Lookup(uint64_t hash, std::string_view name) const {
  for (size_t slot = SlotOf(hash, slots_.size()); slots_[slot] != kNone;
       slot = (slot + 1) & (slots_.size() - 1)) {
    const Entry& entry = entries_[slots_[slot]];
    if (entry.hash == hash && entry.name == name) {
      return &entry;
    }
  }
  return nullptr;
}

uint32_t NameIndex::FindOne(const RuleIndex& index, std::string_view name, uint16_t port,
                            Transport transport) const {
  // What stands at a name is about every address, so that any serves.
  const IpAddress any;
  uint32_t found = kNone;
  uint64_t hash = kHashStart;
  for (size_t i = name.size(); i-- > 0;) {
    hash = AddToHash(hash, name[i]);
    if (i != 0 && name[i - 1] != '.') {
      continue;
    }
    const Entry* entry = Lookup(hash, name.substr(i));
    if (entry != nullptr) {
      const uint32_t rule = index.Find(i == 0 ? entry->exact : entry->below, any, port, transport);
      found = rule != kNone ? rule : found;
    }
  }
  return found;
}

uint32_t NameIndex::Find(std::span<const AddressRule> rules, const RuleIndex& index,
                         std::span<const std::string> names, uint16_t port,
                         Transport transport) const {
  uint32_t best = kNone;
  if (empty()) {
    return best;
  }
  for (const std::string& name : names) {
    if (name.size() > kMaxName) {
      continue;
    }
    const uint32_t rule = FindOne(index, name, port, transport);
    if (rule != kNone && (best == kNone || Beats(rules, rule, best))) {
      best = rule;
    }
  }
  return best;
}

}  // namespace oakum::policy
