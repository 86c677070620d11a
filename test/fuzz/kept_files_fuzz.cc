// The files that an agent finds of the one before it: a session's journal and a container's names.
// The first byte says which, the second how much of nothing follows what is written in the file.
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "agent/dns/names_file.h"
#include "agent/kept/journal.h"

namespace oakum::agent {

namespace {

void Demand(bool promise) {
  if (!promise) {
    __builtin_trap();
  }
}

UniqueFd Copy(const UniqueFd& fd) { return UniqueFd(dup(fd.get())); }

size_t SizeOf(const UniqueFd& file) {
  struct stat status = {};
  Demand(fstat(file.get(), &status) == 0);
  return static_cast<size_t>(status.st_size);
}

void Put(const UniqueFd& file, std::string_view bytes, size_t offset) {
  Demand(pwrite(file.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) ==
         static_cast<ssize_t>(bytes.size()));
}

void TryJournal(const UniqueFd& file) {
  auto journal = Journal::Open(Copy(file));
  Demand(journal.has_value() == Journal::Check(file.get()).has_value());
  if (!journal) {
    Demand(!journal.error().what.empty());
    return;
  }
  const auto state = journal->State();
  const auto noted = journal->Noted();
  Demand(state && state->size() <= kMaxKeptState && noted && noted->size() <= kMaxKeptState);
  const size_t size = SizeOf(file);
  Demand(journal->Note("text").has_value() && journal->Noted() == "text" &&
         journal->State() == *state && SizeOf(file) <= size + sizeof "text");
  const auto used = journal->InUse();
  Demand(used.size() <= kJournalSlots);
  JournalSlot* const slot = journal->Take();
  Demand((slot != nullptr) == (used.size() < kJournalSlots));
  for (const JournalSlot* const taken : used) {
    Demand(taken->used() && taken != slot);
  }
}

void TryNames(const UniqueFd& file) {
  auto names = NamesFile::Open(Copy(file));
  if (!names) {
    Demand(!names.error().what.empty());
    return;
  }
  const auto count = [](const NamesFile& of) {
    size_t records = 0;
    of.Read([&](const NamesFile::Record& record) {
      Demand(record.name.size() <= NamesFile::kMaxName);
      ++records;
    });
    return records;
  };
  const size_t records = count(*names);
  const NamesFile::Record one{"one.example", policy::IpAddress(), 1};
  names->Append(one);
  Demand(count(*names) - records <= 1);
  names->Rewrite([&](const auto& give) { give(one); });
  // What has been written is what the next one reads.
  const auto next = NamesFile::Open(Copy(file));
  Demand(next && count(*next) == 1);
}

}  // namespace

}  // namespace oakum::agent

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace oakum::agent;
  constexpr size_t kSlotsAt = 64;
  constexpr size_t kStateAt = kSlotsAt + kJournalSlots * sizeof(JournalSlot);
  if (size < 2) {
    return 0;
  }
  const std::string_view bytes(reinterpret_cast<const char*>(data + 2), size - 2);
  const size_t nothing = size_t{data[1]} << 16;
  const oakum::UniqueFd file(memfd_create("kept", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  Demand(file.valid());
  if ((data[0] & 1) == 0) {
    // The header and the first slot, then the state.
    const std::string_view begin = bytes.substr(0, kSlotsAt + sizeof(JournalSlot));
    Put(file, begin, 0);
    Put(file, bytes.substr(begin.size()), kStateAt);
    Demand(ftruncate(file.get(),
                     static_cast<off_t>(kStateAt + bytes.size() - begin.size() + nothing)) == 0);
    TryJournal(file);
  } else {
    Put(file, bytes, 0);
    Demand(ftruncate(file.get(), static_cast<off_t>(bytes.size() + nothing)) == 0);
    TryNames(file);
  }
  return 0;
}
