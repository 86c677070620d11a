#include "agent/caller/gather.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <string_view>

namespace oakum::agent {
namespace {

constexpr size_t kPage = 4096;

// Pages of this process, which is the one that is read.
class GatherTest : public testing::Test {
 protected:
  GatherTest() {
    for (size_t i = 0; i < kPages * kPage; ++i) {
      pages_[i] = static_cast<char>(i % 251);
    }
  }
  ~GatherTest() override { munmap(pages_, kPages * kPage); }

  [[nodiscard]] uint64_t At(size_t offset) const {
    return reinterpret_cast<uintptr_t>(pages_) + offset;
  }
  void ExpectCopied(const Gather& gather, size_t piece, size_t offset, size_t size) const {
    EXPECT_EQ(std::string_view(gather.at(piece), size), std::string_view(pages_ + offset, size));
  }
  void Hide(size_t page) const { mprotect(pages_ + page * kPage, kPage, PROT_NONE); }

  static constexpr size_t kPages = 8;

 private:
  char* const pages_ = static_cast<char*>(
      mmap(nullptr, kPages* kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
};

TEST_F(GatherTest, CopiesPiecesWhateverTheirOrder) {
  struct Place {
    size_t offset;
    size_t size;
  };
  constexpr Place kPlaces[] = {
      {100, 16},           {5 * kPage, 40}, {60, 50},          {5 * kPage + 9, 11}, {100, 16},
      {3 * kPage - 5, 10}, {7, 0},          {kPage - 1, 4098}, {7 * kPage, kPage}};
  Gather gather(kPages * kPage);
  for (const Place& place : kPlaces) {
    EXPECT_TRUE(gather.Add(At(place.offset), place.size));
  }
  ASSERT_EQ(gather.Read(getpid()), std::size(kPlaces));
  for (size_t i = 0; i < std::size(kPlaces); ++i) {
    ExpectCopied(gather, i, kPlaces[i].offset, kPlaces[i].size);
  }
}

TEST_F(GatherTest, WhatLiesBetweenNeedNotBeReadable) {
  Gather gather(kPages * kPage);
  EXPECT_TRUE(gather.Add(At(kPage - 8), 8));
  EXPECT_TRUE(gather.Add(At(2 * kPage), 8));
  Hide(1);
  ASSERT_EQ(gather.Read(getpid()), 2U);
  ExpectCopied(gather, 0, kPage - 8, 8);
  ExpectCopied(gather, 1, 2 * kPage, 8);
}

TEST_F(GatherTest, EndsBeforeWhatCannotBeRead) {
  for (const size_t size : {size_t{1}, kPage}) {
    Gather gather(kPages * kPage);
    EXPECT_TRUE(gather.Add(At(0), 10));
    EXPECT_TRUE(gather.Add(At(0), 0));
    EXPECT_TRUE(gather.Add(At(6 * kPage - 1), 1 + size));
    EXPECT_TRUE(gather.Add(At(0), 10));
    Hide(6);
    ASSERT_EQ(gather.Read(getpid()), 2U);
    ExpectCopied(gather, 0, 0, 10);
  }
}

TEST_F(GatherTest, IsBounded) {
  Gather gather(100);
  EXPECT_TRUE(gather.Add(At(0), 60));
  EXPECT_FALSE(gather.Add(At(5 * kPage), 41));
  EXPECT_TRUE(gather.Add(At(20), 80)) << "what is copied already counts once";
  EXPECT_FALSE(gather.Add(At(100), 1));
  EXPECT_FALSE(gather.Add(UINT64_MAX - 3, 8)) << "beyond the last address";
  ASSERT_EQ(gather.Read(getpid()), 2U);
  ExpectCopied(gather, 1, 20, 80);
}

TEST_F(GatherTest, OfNothing) {
  Gather gather(100);
  EXPECT_EQ(gather.Read(getpid()), 0U);
}

}  // namespace
}  // namespace oakum::agent
