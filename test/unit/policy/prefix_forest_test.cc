#include "policy/prefix_forest.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <vector>

namespace oakum::policy {
namespace {

using Entry = PrefixForest::Entry;

bool Covers(const Entry& entry, const IpAddress& ip, int start) {
  for (int bit = start; bit < start + entry.length; ++bit) {
    if (((entry.address[bit / 8] ^ ip.bytes()[bit / 8]) & (0x80 >> (bit % 8))) != 0) {
      return false;
    }
  }
  return true;
}

class PrefixForestTest : public ::testing::TestWithParam<Family> {};

TEST_P(PrefixForestTest, FindsTheLongest) {
  std::mt19937_64 random(11);
  const int start = GetParam() == Family::kV4 ? 96 : 0;
  PrefixForest forest;
  struct Tree {
    uint32_t root;
    std::vector<Entry> entries;
  };
  std::vector<Tree> trees;
  // Several trees in one forest, from dense to sparse.
  for (const uint64_t variety : {1, 2, 3, 16, 256}) {
    for (const size_t count : {0, 1, 2, 10, 300}) {
      std::map<std::pair<std::array<uint8_t, 16>, uint8_t>, uint32_t> unique;
      for (size_t i = 0; i < count; ++i) {
        std::array<uint8_t, 16> bytes = IpAddress::FromV4({0, 0, 0, 0}).bytes();
        for (int b = start / 8; b < 16; ++b) {
          bytes[b] = static_cast<uint8_t>(random() % variety * 37);
        }
        const auto length = static_cast<uint8_t>(random() % (129 - start));
        for (int bit = start + length; bit < 128; ++bit) {
          bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] & ~(0x80 >> (bit % 8)));
        }
        unique[{bytes, length}] = static_cast<uint32_t>(i);
      }
      Tree tree;
      for (const auto& [key, value] : unique) {
        tree.entries.push_back({.address = key.first, .length = key.second, .value = value});
      }
      tree.root = forest.Add(GetParam(), tree.entries);
      trees.push_back(std::move(tree));
    }
  }
  for (const Tree& tree : trees) {
    for (int i = 0; i < 400; ++i) {
      std::array<uint8_t, 16> bytes = IpAddress::FromV4({0, 0, 0, 0}).bytes();
      if (!tree.entries.empty()) {
        bytes = tree.entries[random() % tree.entries.size()].address;
      }
      for (int flips = static_cast<int>(random() % 4); flips > 0; --flips) {
        const size_t bit = start + random() % (128 - start);
        bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] ^ (1U << (random() % 8)));
      }
      const IpAddress ip(bytes);
      uint32_t expected = PrefixForest::kNone;
      int longest = -1;
      for (const Entry& entry : tree.entries) {
        if (entry.length > longest && Covers(entry, ip, start)) {
          longest = entry.length;
          expected = entry.value;
        }
      }
      ASSERT_EQ(forest.Find(tree.root, ip), expected) << ip.ToString();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, PrefixForestTest, ::testing::Values(Family::kV4, Family::kV6));

}  // namespace
}  // namespace oakum::policy
