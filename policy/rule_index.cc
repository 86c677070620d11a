#include "policy/rule_index.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <set>

namespace oakum::policy {

namespace {

int Strictness(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAllow:
      return 0;
    case Verdict::kRedirect:
      return 1;
    case Verdict::kDeny:
      return 2;
  }
  return 2;
}

// A rule and the prefix that it is sorted by: its host, or its `from`.
struct Key {
  uint64_t high = 0;
  uint64_t low = 0;
  uint8_t length = 0;
  uint32_t id = 0;

  [[nodiscard]] bool SamePrefix(const Key& other) const {
    return high == other.high && low == other.low && length == other.length;
  }
  auto operator<=>(const Key&) const = default;
};

uint64_t BigEndian(const uint8_t* bytes) {
  uint64_t value = 0;
  std::memcpy(&value, bytes, sizeof value);
  return std::endian::native == std::endian::little ? __builtin_bswap64(value) : value;
}

Key MakeKey(const Prefix& prefix, Family family, uint32_t id) {
  // "*" is the prefix of length 0 in either family.
  const IpAddress address = prefix.family != Family::kAny ? prefix.address
                            : family == Family::kV4       ? IpAddress::FromV4({0, 0, 0, 0})
                                                          : IpAddress();
  return {.high = BigEndian(address.bytes().data()),
          .low = BigEndian(address.bytes().data() + 8),
          .length = prefix.length,
          .id = id};
}

bool IsIn(const Prefix& prefix, Family family) {
  return prefix.family == Family::kAny || prefix.family == family;
}

// Whether the prefix of `outer` contains that of `inner`, which comes after it in order.
bool Contains(const PrefixForest::Entry& outer, const PrefixForest::Entry& inner, Family family) {
  const uint32_t bits = outer.length + (family == Family::kV4 ? 96U : 0U);
  const uint32_t whole = bits / 8;
  if (outer.length > inner.length ||
      std::memcmp(outer.address.data(), inner.address.data(), whole) != 0) {
    return false;
  }
  const uint32_t left = bits % 8;
  return left == 0 || ((outer.address[whole] ^ inner.address[whole]) >> (8 - left)) == 0;
}

// Walks the distinct prefixes of `keys` (sorted) in order. `add(ids)` stores what stands at one
// prefix and returns its value; `link(value, parent)` gives it the value of the next shorter
// prefix, or kNone. Returns the entries of a PrefixForest.
template <typename Add, typename Link>
std::vector<PrefixForest::Entry> AddPrefixes(std::span<const Key> keys, Family family,
                                             const auto& prefix_of, Add add, Link link) {
  std::vector<PrefixForest::Entry> entries;
  std::vector<PrefixForest::Entry> open;  // prefixes that contain the current one, shortest first
  std::vector<uint32_t> ids;
  for (size_t i = 0; i < keys.size();) {
    ids.clear();
    size_t end = i;
    while (end < keys.size() && keys[end].SamePrefix(keys[i])) {
      ids.push_back(keys[end++].id);
    }
    const Prefix& prefix = prefix_of(keys[i].id);
    PrefixForest::Entry entry{.address = prefix.address.bytes(), .length = prefix.length};
    if (prefix.family == Family::kAny && family == Family::kV4) {
      entry.address = IpAddress::FromV4({0, 0, 0, 0}).bytes();
    }
    entry.value = add(ids);
    while (!open.empty() && !Contains(open.back(), entry, family)) {
      open.pop_back();
    }
    link(entry.value, open.empty() ? PrefixForest::kNone : open.back().value);
    open.push_back(entry);
    entries.push_back(entry);
    i = end;
  }
  return entries;
}

}  // namespace

bool BeatsAtSamePrefix(const AddressRule& a, const AddressRule& b) {
  if (const uint32_t ports_a = a.PortCount(), ports_b = b.PortCount(); ports_a != ports_b) {
    return ports_a < ports_b;
  }
  if (a.transport.has_value() != b.transport.has_value()) {
    return a.transport.has_value();
  }
  return Strictness(a.verdict) > Strictness(b.verdict);
}

RuleIndex::Tree RuleIndex::Add(std::span<const AddressRule> rules, std::span<const uint32_t> ids) {
  return {.v4 = AddFamily(Family::kV4, rules, ids), .v6 = AddFamily(Family::kV6, rules, ids)};
}

uint32_t RuleIndex::AddFamily(Family family, std::span<const AddressRule> rules,
                              std::span<const uint32_t> ids) {
  std::vector<Key> keys;
  keys.reserve(ids.size());
  for (const uint32_t id : ids) {
    if (IsIn(rules[id].host, family)) {
      keys.push_back(MakeKey(rules[id].host, family, id));
    }
  }
  std::sort(keys.begin(), keys.end());
  const auto entries = AddPrefixes(
      keys, family, [&](uint32_t id) -> const Prefix& { return rules[id].host; },
      [&](std::vector<uint32_t>& at_prefix) {
        groups_.push_back(MakeGroup(rules, at_prefix));
        return static_cast<uint32_t>(groups_.size() - 1);
      },
      [&](uint32_t group, uint32_t parent) { groups_[group].parent = parent; });
  return forest_.Add(family, entries);
}

RuleIndex::Group RuleIndex::MakeGroup(std::span<const AddressRule> rules, std::span<uint32_t> ids) {
  std::stable_sort(ids.begin(), ids.end(),
                   [&](uint32_t a, uint32_t b) { return BeatsAtSamePrefix(rules[a], rules[b]); });
  Group group;
  for (const Transport transport : {Transport::kTcp, Transport::kUdp, Transport::kOther}) {
    const auto best = std::find_if(ids.begin(), ids.end(), [&](uint32_t id) {
      return rules[id].ports.empty() && rules[id].Covers(0, transport);
    });
    group.any[static_cast<size_t>(transport)] = best == ids.end() ? kNone : *best;
  }
  group.ports[0] = AddIntervals(rules, ids, Transport::kTcp);
  const bool same = std::none_of(ids.begin(), ids.end(), [&](uint32_t id) {
    return !rules[id].ports.empty() && rules[id].transport.has_value();
  });
  group.ports[1] = same ? group.ports[0] : AddIntervals(rules, ids, Transport::kUdp);
  return group;
}

// `ids` are in the order in which rules beat one another.
RuleIndex::Slice RuleIndex::AddIntervals(std::span<const AddressRule> rules,
                                         std::span<const uint32_t> ids, Transport transport) {
  struct Edge {
    uint32_t port;
    bool opens;
    uint32_t rank;
  };
  std::vector<Edge> edges;
  for (uint32_t rank = 0; rank < ids.size(); ++rank) {
    const AddressRule& rule = rules[ids[rank]];
    if (!rule.transport || *rule.transport == transport) {
      for (const PortRange& range : rule.ports) {
        edges.push_back({.port = range.first, .opens = true, .rank = rank});
        edges.push_back({.port = range.last + 1U, .opens = false, .rank = rank});
      }
    }
  }
  std::sort(edges.begin(), edges.end(),
            [](const Edge& a, const Edge& b) { return a.port < b.port; });
  Slice slice{.begin = static_cast<uint32_t>(intervals_.size()), .end = 0};
  std::set<uint32_t> open;
  for (size_t i = 0; i < edges.size();) {
    const uint32_t port = edges[i].port;
    for (; i < edges.size() && edges[i].port == port; ++i) {
      if (edges[i].opens) {
        open.insert(edges[i].rank);
      } else {
        open.erase(edges[i].rank);
      }
    }
    if (!open.empty()) {
      intervals_.push_back({.first = static_cast<uint16_t>(port),
                            .last = static_cast<uint16_t>(edges[i].port - 1),
                            .rule = ids[*open.begin()]});
    }
  }
  slice.end = static_cast<uint32_t>(intervals_.size());
  return slice;
}

uint32_t RuleIndex::Find(const Tree& tree, const IpAddress& address, uint16_t port,
                         Transport transport) const {
  uint32_t at = forest_.Find(address.IsV4() ? tree.v4 : tree.v6, address);
  for (; at != kNone; at = groups_[at].parent) {
    const Group& group = groups_[at];
    if (transport != Transport::kOther) {
      const Slice slice = group.ports[static_cast<size_t>(transport)];
      const auto begin = intervals_.begin() + slice.begin;
      const auto end = intervals_.begin() + slice.end;
      const auto next =
          std::upper_bound(begin, end, port,
                           [](uint16_t p, const Interval& interval) { return p < interval.first; });
      if (next != begin && port <= (next - 1)->last) {
        return (next - 1)->rule;
      }
    }
    if (const uint32_t any = group.any[static_cast<size_t>(transport)]; any != kNone) {
      return any;
    }
  }
  return kNone;
}

PeerIndex PeerIndex::Create(std::span<const AddressRule> rules, RuleIndex& index) {
  PeerIndex peers;
  peers.v4_ = peers.AddFamily(Family::kV4, rules, index);
  peers.v6_ = peers.AddFamily(Family::kV6, rules, index);
  return peers;
}

uint32_t PeerIndex::AddFamily(Family family, std::span<const AddressRule> rules, RuleIndex& index) {
  static constexpr Prefix kAnyPeer;
  const auto prefix_of = [&](uint32_t id) -> const Prefix& {
    return rules[id].from ? *rules[id].from : kAnyPeer;
  };
  std::vector<Key> keys;
  for (uint32_t id = 0; id < rules.size(); ++id) {
    if (IsIn(prefix_of(id), family)) {
      keys.push_back(MakeKey(prefix_of(id), family, id));
    }
  }
  std::sort(keys.begin(), keys.end());
  const auto entries = AddPrefixes(
      keys, family, prefix_of,
      [&](std::vector<uint32_t>& at_prefix) {
        groups_.push_back({.parent = kNone, .local = index.Add(rules, at_prefix)});
        return static_cast<uint32_t>(groups_.size() - 1);
      },
      [&](uint32_t group, uint32_t parent) { groups_[group].parent = parent; });
  return forest_.Add(family, entries);
}

uint32_t PeerIndex::Find(const RuleIndex& index, const IpAddress& peer, const Endpoint& local,
                         Transport transport) const {
  uint32_t at = forest_.Find(peer.IsV4() ? v4_ : v6_, peer);
  for (; at != kNone; at = groups_[at].parent) {
    const uint32_t rule = index.Find(groups_[at].local, local.ip, local.port, transport);
    if (rule != kNone) {
      return rule;
    }
  }
  return kNone;
}

}  // namespace oakum::policy
