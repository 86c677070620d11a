#include "agent/kept/journal.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <string>
#include <vector>

namespace oakum::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// What the file takes of memory.
size_t PagesOf(const Journal& journal) {
  struct stat status = {};
  EXPECT_EQ(fstat(journal.fd(), &status), 0);
  return static_cast<size_t>(status.st_blocks) * 512 / static_cast<size_t>(getpagesize());
}

TEST(JournalTest, GivesUpMemoryThatNoCallNeeds) {
  auto journal = Journal::Create("state");
  ASSERT_TRUE(journal.has_value());
  const size_t before = PagesOf(*journal);
  std::vector<JournalSlot*> slots;
  for (uint64_t id = 1; id <= 1000; ++id) {
    slots.push_back(journal->Take());
    slots.back()->notification.id = id;
  }
  EXPECT_GT(PagesOf(*journal), before + 40);
  journal->LetGo();
  EXPECT_GT(PagesOf(*journal), before + 40);
  EXPECT_EQ(slots[999]->notification.id, 1000);
  for (size_t i = 0; i + 1 < slots.size(); ++i) {
    journal->Release(slots[i]);
  }
  journal->LetGo();  // one is in use
  EXPECT_EQ(slots[999]->notification.id, 1000);
  journal->Release(slots[999]);
  journal->LetGo();
  EXPECT_LE(PagesOf(*journal), before + 1);
  EXPECT_EQ(*journal->State(), "state");
  EXPECT_TRUE(Journal::Check(journal->fd()).has_value());
  JournalSlot* again = journal->Take();
  ASSERT_NE(again, nullptr);
  EXPECT_FALSE(again->used());
}

TEST(JournalTest, SlotsAreTakenAndReleased) {
  auto journal = Journal::Create("state");
  ASSERT_TRUE(journal.has_value());
  EXPECT_EQ(*journal->State(), "state");
  EXPECT_THAT(journal->InUse(), IsEmpty());
  std::vector<JournalSlot*> slots;
  while (JournalSlot* slot = journal->Take()) {
    slot->notification.id = slots.size() + 1;
    slots.push_back(slot);
  }
  EXPECT_EQ(slots.size(), kJournalSlots);
  journal->Release(slots[7]);
  JournalSlot* again = journal->Take();
  EXPECT_EQ(again, slots[7]);
  EXPECT_FALSE(again->used());
  for (size_t i = 0; i < slots.size(); ++i) {
    if (i != 3 && i != kJournalSlots - 1 && i != 7) {
      journal->Release(slots[i]);
    }
  }
  journal->Freeze();
  journal->Release(slots[3]);  // of no use any more
  auto next = Journal::Open(UniqueFd(fcntl(journal->fd(), F_DUPFD_CLOEXEC, 0)));
  ASSERT_TRUE(next.has_value());
  std::vector<uint64_t> ids;
  for (const JournalSlot* slot : next->InUse()) {
    ids.push_back(slot->notification.id);
  }
  std::ranges::sort(ids);
  EXPECT_THAT(ids, ElementsAre(4, kJournalSlots));
  JournalSlot* fresh = next->Take();
  ASSERT_NE(fresh, nullptr);
  EXPECT_FALSE(fresh->used());
}

// An agent has one for every container, and few of those use more than a slot at a time.
TEST(JournalTest, LookingForSlotsInUseMakesNoPages) {
  auto journal = Journal::Create("the state");
  ASSERT_TRUE(journal);
  EXPECT_THAT(journal->InUse(), IsEmpty());
  ASSERT_NE(journal->Take(), nullptr);
  struct stat status = {};
  ASSERT_EQ(fstat(journal->fd(), &status), 0);
  // The page with the header and the first slots, and the one with the state.
  EXPECT_LE(status.st_blocks * 512, 2 * sysconf(_SC_PAGESIZE));
}

TEST(JournalTest, NotesReplaceEachOther) {
  auto journal = Journal::Create(std::string(10'000, 's'));
  ASSERT_TRUE(journal.has_value());
  EXPECT_EQ(*journal->Noted(), "");
  for (const size_t size : {100, 5'000, 40, 60, 0, 9'000, 8'999}) {
    ASSERT_TRUE(journal->Note(std::string(size, 'n')).has_value());
    EXPECT_EQ(journal->Noted()->size(), size);
    EXPECT_EQ(*journal->State(), std::string(10'000, 's'));
  }
}

TEST(JournalTest, OtherFilesAreNone) {
  const UniqueFd file(memfd_create("other", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  EXPECT_EQ(Journal::Check(file.get()).error().code, EINVAL);
  ASSERT_EQ(ftruncate(file.get(), 1 << 20), 0);
  EXPECT_EQ(Journal::Check(file.get()).error().code, EINVAL);
}

// Where the header has them (journal.cc).
constexpr off_t kNotedSizeAt = 32;
constexpr off_t kNotedPlaceAt = 36;

// Whether a journal is still taken for one with such a number in its header, in a file that is long
// enough for it.
bool IsTakenWith(off_t at, uint32_t number) {
  const auto journal = Journal::Create("state");
  EXPECT_TRUE(journal && pwrite(journal->fd(), &number, sizeof number, at) == sizeof number &&
              ftruncate(journal->fd(), off_t{8} << 30) == 0);
  const auto opened = Journal::Open(UniqueFd(dup(journal->fd())));
  const bool taken = opened.has_value();
  EXPECT_EQ(Journal::Check(journal->fd()).has_value(), taken);
  EXPECT_EQ(journal->Noted().has_value(), taken);
  return taken;
}

TEST(JournalTest, WhatIsNotedIsBounded) {
  EXPECT_TRUE(IsTakenWith(kNotedSizeAt, kMaxKeptState));
  EXPECT_FALSE(IsTakenWith(kNotedSizeAt, kMaxKeptState + 1));
  EXPECT_FALSE(IsTakenWith(kNotedSizeAt, UINT32_MAX));
  EXPECT_TRUE(IsTakenWith(kNotedPlaceAt, 2 * kMaxKeptState));
  EXPECT_FALSE(IsTakenWith(kNotedPlaceAt, 2 * kMaxKeptState + 1));
}

TEST(JournalTest, WhateverIsNotedOneAfterTheOtherIsTaken) {
  auto journal = Journal::Create("state");
  ASSERT_TRUE(journal.has_value());
  size_t size = 1;
  for (int i = 0; i < 100; ++i) {
    const std::string text(size, static_cast<char>('a' + i % 26));
    ASSERT_TRUE(journal->Note(text).has_value());
    EXPECT_EQ(journal->Noted().value_or("none"), text) << i;
    EXPECT_EQ(journal->State().value_or("none"), "state");
    // Longer and longer, which needs more and more room, and then anything.
    size = i < 40 ? std::min(2 * size, kMaxKeptState) : (size * 7919 + 13) % kMaxKeptState;
  }
}

}  // namespace
}  // namespace oakum::agent
