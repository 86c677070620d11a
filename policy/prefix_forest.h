// Longest-prefix match over many trees in one block of memory.
#ifndef OAKUM_POLICY_PREFIX_FOREST_H_
#define OAKUM_POLICY_PREFIX_FOREST_H_

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "policy/address.h"
#include "policy/rule_text.h"

namespace oakum::policy {

// A multibit tree: each level looks at one byte of the address. IPv4 trees look at every byte down
// to the longest prefix under it; IPv6 trees skip bytes that all prefixes below share (and compare
// them). Runs of equal entries are stored once, marked in a bitmap. So a look-up costs at most 4
// (IPv4) or 16 (IPv6) levels, whatever the number of prefixes.
class PrefixForest {
 public:
  static constexpr uint32_t kNone = 0x7fff'ffff;  // no prefix contains the address

  struct Entry {
    std::array<uint8_t, 16> address = {};  // as IpAddress has it
    uint8_t length = 0;                    // of 32 for IPv4, of 128 for IPv6
    uint32_t value = 0;                    // below kNone
  };

  // Adds a tree of prefixes of one family (kV4 or kV6), sorted by address and then by length, each
  // once. Returns its root for Find.
  [[nodiscard]] uint32_t Add(Family family, std::span<const Entry> entries);

  // The value of the longest prefix in that tree which contains `address`, or kNone. The address
  // must be of the tree's family.
  [[nodiscard]] uint32_t Find(uint32_t root, const IpAddress& address) const;

 private:
  // Entries with this bit are nodes; others are values.
  static constexpr uint32_t kNodeBit = 0x8000'0000;

  // One cache line.
  struct alignas(64) Node {
    std::array<uint64_t, 4> run_starts = {};  // bit set: a byte value where another run starts
    std::array<uint8_t, 4> rank = {};         // runs that start in the words before, minus one
    uint32_t base = 0;                        // first run in runs_
    uint32_t fallback = kNone;                // when skipped bytes differ
    uint8_t byte = 0;                         // which byte of the address is looked at
    uint8_t skipped = 0;                      // how many bytes before it have to be compared
    std::array<uint8_t, 14> skip = {};        // these bytes
  };

  uint32_t Build(Family family, std::span<const Entry> entries, uint8_t byte, uint32_t fallback);
  static uint8_t FirstUsefulByte(std::span<const Entry> entries, uint8_t byte);
  void StoreRuns(Node& node, const std::array<uint32_t, 256>& values);

  std::vector<Node> nodes_;
  std::vector<uint32_t> runs_;
};

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_PREFIX_FOREST_H_
