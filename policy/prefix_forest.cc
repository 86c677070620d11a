#include "policy/prefix_forest.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace oakum::policy {

namespace {

// Bits of the 16-byte form that come before an IPv4 address.
constexpr uint32_t kV4Offset = 96;
constexpr uint8_t kV4Byte = 12;
// Bytes that one node can skip: what Node has room for.
constexpr uint8_t kMaxSkip = 14;

// Without an instruction for it std::popcount() is a call of libgcc's, which reads a table.
int CountOnes(uint64_t bits) {
#if defined(__POPCNT__) || defined(__aarch64__)
  return std::popcount(bits);
#else
  constexpr uint64_t kOne = 0x0101010101010101;
  bits -= (bits >> 1) & (0x55 * kOne);
  bits = (bits & (0x33 * kOne)) + ((bits >> 2) & (0x33 * kOne));
  return static_cast<int>((((bits + (bits >> 4)) & (0x0f * kOne)) * kOne) >> 56);
#endif
}

}  // namespace

uint32_t PrefixForest::Add(Family family, std::span<const Entry> entries) {
  // Lengths count from the start of the 16-byte form from here on.
  std::vector<Entry> absolute(entries.begin(), entries.end());
  const uint32_t offset = family == Family::kV4 ? kV4Offset : 0;
  for (Entry& entry : absolute) {
    entry.length = static_cast<uint8_t>(entry.length + offset);
  }
  std::span<const Entry> rest = absolute;
  uint32_t fallback = kNone;
  if (!rest.empty() && rest.front().length == offset) {
    fallback = rest.front().value;
    rest = rest.subspan(1);
  }
  return Build(family, rest, family == Family::kV4 ? kV4Byte : 0, fallback);
}

// `entries` share all bytes before `byte` and are longer than those.
uint32_t PrefixForest::Build(Family family, std::span<const Entry> entries, uint8_t byte,
                             uint32_t fallback) {
  if (entries.empty()) {
    return fallback;
  }
  Node node;
  node.fallback = fallback;
  node.byte = family == Family::kV4 ? byte : FirstUsefulByte(entries, byte);
  node.skipped = static_cast<uint8_t>(node.byte - byte);
  std::copy_n(entries.front().address.begin() + byte, node.skipped, node.skip.begin());
  const uint32_t end_bits = node.byte * 8U + 8U;

  // Prefixes that end within this byte cover a range of its values; shorter ones come first in the
  // order of the entries, so that longer ones overwrite them.
  std::array<uint32_t, 256> values;
  values.fill(fallback);
  for (const Entry& entry : entries) {
    if (entry.length <= end_bits) {
      const uint32_t first = entry.address[node.byte];
      std::fill_n(values.begin() + first, size_t{1} << (end_bits - entry.length), entry.value);
    }
  }
  // Longer ones go into a child for their value of this byte.
  const auto index = static_cast<uint32_t>(nodes_.size());
  nodes_.emplace_back();
  for (size_t i = 0; i < entries.size();) {
    if (entries[i].length <= end_bits) {
      ++i;
      continue;
    }
    const uint8_t value = entries[i].address[node.byte];
    size_t end = i + 1;
    while (end < entries.size() && entries[end].address[node.byte] == value) {
      ++end;
    }
    values[value] = Build(family, entries.subspan(i, end - i), static_cast<uint8_t>(node.byte + 1),
                          values[value]);
    i = end;
  }
  StoreRuns(node, values);
  nodes_[index] = node;
  return index | kNodeBit;
}

// The first byte, from `byte` on, in which the entries differ or one of them ends.
uint8_t PrefixForest::FirstUsefulByte(std::span<const Entry> entries, uint8_t byte) {
  const auto shortest =
      std::min_element(entries.begin(), entries.end(),
                       [](const Entry& a, const Entry& b) { return a.length < b.length; });
  const auto& first = entries.front().address;
  const auto& last = entries.back().address;
  uint8_t useful = byte;
  while (first[useful] == last[useful] && shortest->length > useful * 8U + 8U &&
         useful - byte < kMaxSkip) {
    ++useful;
  }
  return useful;
}

void PrefixForest::StoreRuns(Node& node, const std::array<uint32_t, 256>& values) {
  node.base = static_cast<uint32_t>(runs_.size());
  // `rank` is one less than the number of runs so far, modulo 256: the first value always starts a
  // run, so that the sum in Find is never negative.
  uint32_t runs = 0;
  for (uint32_t i = 0; i < values.size(); ++i) {
    if (i % 64 == 0) {
      node.rank[i / 64] = static_cast<uint8_t>(runs - 1);
    }
    if (i == 0 || values[i] != values[i - 1]) {
      node.run_starts[i / 64] |= uint64_t{1} << (i % 64);
      runs_.push_back(values[i]);
      ++runs;
    }
  }
}

uint32_t PrefixForest::Find(uint32_t root, const IpAddress& address) const {
  const std::array<uint8_t, 16>& bytes = address.bytes();
  uint32_t at = root;
  while ((at & kNodeBit) != 0) {
    const Node& node = nodes_[at & ~kNodeBit];
    if (node.skipped != 0 &&
        std::memcmp(bytes.data() + node.byte - node.skipped, node.skip.data(), node.skipped) != 0) {
      return node.fallback;
    }
    const uint8_t value = bytes[node.byte];
    const uint64_t up_to = node.run_starts[value / 64] & (~uint64_t{0} >> (63 - value % 64));
    const auto run = static_cast<uint8_t>(node.rank[value / 64] + CountOnes(up_to));
    at = runs_[node.base + run];
  }
  return at;
}

}  // namespace oakum::policy
