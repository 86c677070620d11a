// The rules for names in the form in which they are looked up.
#ifndef OAKUM_POLICY_NAME_INDEX_H_
#define OAKUM_POLICY_NAME_INDEX_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/checked.h"
#include "policy/rule_index.h"

namespace oakum::policy {

// How near the rule is to a name that it covers: the name itself, then what is below the longest
// name.
[[nodiscard]] uint32_t NameRank(const AddressRule& rule);

// A hash table of names. A look-up reads the name once, from its end, and asks the table once for
// each of its labels, whatever the number of rules.
class NameIndex {
 public:
  static constexpr uint32_t kNone = RuleIndex::kNone;

  // Of those `rules` whose indexes are in `ids`; what stands at one name goes into `index`.
  [[nodiscard]] static NameIndex Create(std::span<const AddressRule> rules,
                                        std::span<const uint32_t> ids, RuleIndex& index);

  [[nodiscard]] bool empty() const { return entries_.empty(); }

  // The index of the rule that decides about these names (in their normal form): of those that
  // cover one of them, port and transport the one with the highest rank, then as BeatsAtSamePrefix
  // has it, then the earlier one. kNone when there is none. `rules` and `index` are those of
  // Create.
  [[nodiscard]] uint32_t Find(std::span<const AddressRule> rules, const RuleIndex& index,
                              std::span<const std::string> names, uint16_t port,
                              Transport transport) const;

 private:
  struct Entry {
    uint64_t hash = 0;
    std::string name;
    RuleIndex::Tree exact;  // rules for the name
    RuleIndex::Tree below;  // rules for "*.name"
  };

  [[nodiscard]] const Entry* Lookup(uint64_t hash, std::string_view name) const;
  [[nodiscard]] uint32_t FindOne(const RuleIndex& index, std::string_view name, uint16_t port,
                                 Transport transport) const;

  std::vector<Entry> entries_;
  std::vector<uint32_t> slots_;  // indexes of entries, or kNone; a power of two of them, half full
};

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_NAME_INDEX_H_
