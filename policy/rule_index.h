// The rules of a policy in the form in which they are looked up.
#ifndef OAKUM_POLICY_RULE_INDEX_H_
#define OAKUM_POLICY_RULE_INDEX_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "policy/checked.h"
#include "policy/prefix_forest.h"

namespace oakum::policy {

// Whether rule `a` beats rule `b` where both cover a request, leaving addresses aside: fewer ports,
// then a protocol over none, then deny over redirect over allow, then the earlier one.
[[nodiscard]] bool BeatsAtSamePrefix(const AddressRule& a, const AddressRule& b);

// Any number of rule trees in one block of memory.
class RuleIndex {
 public:
  static constexpr uint32_t kNone = PrefixForest::kNone;

  struct Tree {
    uint32_t v4 = kNone;
    uint32_t v6 = kNone;
  };

  // Adds a tree of the rules whose indexes are in `ids`; `from` is not looked at.
  [[nodiscard]] Tree Add(std::span<const AddressRule> rules, std::span<const uint32_t> ids);

  // The index of the rule that decides about that address: of those that cover port and transport
  // the one with the longest prefix, then as BeatsAtSamePrefix has it. kNone when there is none.
  [[nodiscard]] uint32_t Find(const Tree& tree, const IpAddress& address, uint16_t port,
                              Transport transport) const;

 private:
  // A run of ports with the rule (among those that name ports) that decides about it.
  struct Interval {
    uint16_t first = 0;
    uint16_t last = 0;
    uint32_t rule = 0;
  };
  struct Slice {
    uint32_t begin = 0;
    uint32_t end = 0;
  };
  // The rules at one prefix.
  struct Group {
    uint32_t parent = kNone;                              // the next shorter prefix with rules
    std::array<uint32_t, 3> any = {kNone, kNone, kNone};  // by Transport: rules without ports
    std::array<Slice, 2> ports = {};                      // tcp, udp: sorted, disjoint intervals
  };

  uint32_t AddFamily(Family family, std::span<const AddressRule> rules,
                     std::span<const uint32_t> ids);
  Group MakeGroup(std::span<const AddressRule> rules, std::span<uint32_t> ids);
  Slice AddIntervals(std::span<const AddressRule> rules, std::span<const uint32_t> ids,
                     Transport transport);

  PrefixForest forest_;
  std::vector<Group> groups_;
  std::vector<Interval> intervals_;
};

// Incoming connections: the longest `from` that contains the peer, then the local address as
// RuleIndex has it.
class PeerIndex {
 public:
  static constexpr uint32_t kNone = PrefixForest::kNone;

  // Adds all `rules`, whose trees go into `index`.
  [[nodiscard]] static PeerIndex Create(std::span<const AddressRule> rules, RuleIndex& index);

  [[nodiscard]] uint32_t Find(const RuleIndex& index, const IpAddress& peer, const Endpoint& local,
                              Transport transport) const;

 private:
  struct Group {
    uint32_t parent = kNone;
    RuleIndex::Tree local;
  };

  uint32_t AddFamily(Family family, std::span<const AddressRule> rules, RuleIndex& index);

  PrefixForest forest_;
  std::vector<Group> groups_;
  uint32_t v4_ = kNone;
  uint32_t v6_ = kNone;
};

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_RULE_INDEX_H_
