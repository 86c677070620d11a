#include "cli/run_store.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <new>
#include <utility>

namespace oakum::cli {

struct RunTable::Record {
  // Written last, and cleared first: 0: there is none; a greater one is the newer of a name.
  std::atomic<uint64_t> number;
  std::array<char, agent::kMaxKeptName> name;  // up to the first 0
  std::array<File, agent::kMaxKeptFds> files;
  uint32_t count;
  // Its descriptors are its own, and closed with it; or they are somebody's in the guard who
  // forgets it before closing them.
  uint32_t owns;
};

struct RunTable::Shared {
  std::atomic<uint64_t> next_number;
  std::atomic<pid_t> program;
  std::atomic<uint32_t> used;  // from here on no record has ever been used
  std::array<Record, kMaxRecords> records;
};

namespace {

// Of an open file: whether a number still means it.
template <typename File>
bool Describe(int fd, File& file) {
  struct stat status = {};
  if (fstat(fd, &status) != 0) {
    return false;
  }
  file = {fd, status.st_dev, status.st_ino};
  return true;
}

std::set<int> OpenNumbers() {
  std::set<int> numbers;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", error)) {
    numbers.insert(std::atoi(entry.path().filename().c_str()));
  }
  // That of the directory itself is closed by now.
  std::erase_if(numbers, [](int fd) { return fcntl(fd, F_GETFD) < 0; });
  return numbers;
}

}  // namespace

// As fork(3) does it, which has no word for CLONE_FILES: the C library notes a thread's id where
// the kernel is to clear it at its end (set_tid_address(2)).
pid_t ForkSharingDescriptors() {
  pid_t* noted = nullptr;
  (void)prctl(PR_GET_TID_ADDRESS, &noted);
  const auto pid =
      static_cast<pid_t>(syscall(SYS_clone, CLONE_FILES | SIGCHLD, nullptr, nullptr, nullptr, 0));
  if (pid == 0 && noted != nullptr) {
    *noted = static_cast<pid_t>(syscall(SYS_gettid));
    (void)syscall(SYS_set_tid_address, noted);
  }
  return pid;
}

Expected<std::unique_ptr<RunTable>> RunTable::Create() {
  void* const memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return ErrnoError("mmap");
  }
  // Zeroes are an empty table, and pages that nobody writes to take no memory.
  auto* const shared = static_cast<Shared*>(memory);
  shared->next_number = 1;
  return std::unique_ptr<RunTable>(new RunTable(shared));
}

RunTable::~RunTable() { (void)munmap(shared_, sizeof(Shared)); }

pid_t RunTable::program() const { return shared_->program; }

void RunTable::NoteOwn() { own_ = OpenNumbers(); }

std::vector<agent::KeptItem> RunTable::TakeAll() {
  std::map<std::string, Record*> newest;
  const std::span records(shared_->records.data(), shared_->used.load());
  for (Record& record : records) {
    if (record.number == 0) {
      continue;
    }
    Record*& known = newest[record.name.data()];
    if (known == nullptr || known->number < record.number) {
      known = &record;
    }
  }
  std::set<int> wanted = own_;
  std::vector<agent::KeptItem> items;
  for (const auto& [name, record] : newest) {
    agent::KeptItem item{name, {}};
    std::array<File, agent::kMaxKeptFds> own = {};
    bool whole = true;
    for (size_t i = 0; i < record->count && whole; ++i) {
      const File& file = record->files[i];
      File now = {};
      whole = Describe(file.fd, now) && now.device == file.device && now.inode == file.inode;
      own[i] = now;
      own[i].fd = whole ? fcntl(file.fd, F_DUPFD_CLOEXEC, 0) : -1;
      item.fds.emplace_back(whole ? fcntl(file.fd, F_DUPFD_CLOEXEC, 0) : -1);
      whole = own[i].fd >= 0 && item.fds.back();
    }
    if (!whole) {
      record->number = 0;  // it was being closed: what it was has ended
      continue;
    }
    for (size_t i = 0; i < record->count; ++i) {
      wanted.insert({own[i].fd, item.fds[i].get()});
    }
    record->files = own;
    record->owns = 1;
    items.push_back(std::move(item));
  }
  for (Record& record : records) {
    if (record.number != 0 && newest[record.name.data()] != &record) {
      record.number = 0;
    }
  }
  CloseAllBut(wanted);
  return items;
}

void RunTable::CloseAll() const { CloseAllBut(own_); }

void RunTable::CloseAllBut(const std::set<int>& wanted) {
  for (const int fd : OpenNumbers()) {
    if (!wanted.contains(fd)) {
      (void)close(fd);
    }
  }
}

RunStore::RunStore(RunTable& table, int line_fd, pid_t keeper)
    : shared_(*table.shared_), line_fd_(line_fd), keeper_(keeper) {
  for (uint32_t i = 0; i < shared_.used; ++i) {
    if (shared_.records[i].number != 0) {
      names_.emplace(shared_.records[i].name.data(), i);
    } else {
      free_.push_back(i);
    }
  }
}

Expected<void> RunStore::Keep(const std::string& name, std::span<const int> fds) {
  // Who keeps a connection forgets it before closing its own (KeptRelays), but for the listener
  // that comes first, which is the session's.
  const bool owns = !name.starts_with(agent::kKeptRelayPrefix);
  if (!owns && !fds.empty()) {
    fds = fds.subspan(1);
  }
  if (name.size() >= agent::kMaxKeptName || fds.size() > agent::kMaxKeptFds) {
    return MakeError(ENAMETOOLONG, "too much to keep by one name");
  }
  std::vector<UniqueFd> copies;
  std::array<RunTable::File, agent::kMaxKeptFds> files = {};
  for (size_t i = 0; i < fds.size(); ++i) {
    int fd = fds[i];
    if (owns) {
      fd = copies.emplace_back(fcntl(fd, F_DUPFD_CLOEXEC, 0)).get();
    }
    if (fd < 0 || !Describe(fd, files[i])) {
      return ErrnoError("keep a descriptor");
    }
  }
  const std::lock_guard lock(mutex_);
  if (free_.empty()) {
    if (shared_.used == RunTable::kMaxRecords) {
      return MakeError(ENOSPC, "the table of what is kept is full");
    }
    free_.push_back(shared_.used++);
  }
  const size_t index = free_.back();
  free_.pop_back();
  RunTable::Record& record = shared_.records[index];
  record.name.fill(0);
  std::ranges::copy(name, record.name.begin());
  record.files = files;
  record.count = static_cast<uint32_t>(fds.size());
  record.owns = owns ? 1 : 0;
  record.number.store(shared_.next_number.fetch_add(1), std::memory_order_release);
  for (UniqueFd& copy : copies) {
    (void)copy.Release();
  }
  if (const auto [place, is_new] = names_.try_emplace(name, index); !is_new) {
    Drop(std::exchange(place->second, index));
  }
  return {};
}

Expected<void> RunStore::KeepProgram(pid_t program, int listener_fd) {
  auto kept = Keep(kListenerName, std::span(&listener_fd, 1));
  if (kept) {
    shared_.program = program;
  }
  return kept;
}

void RunStore::Forget(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (const auto found = names_.find(name); found != names_.end()) {
    Drop(found->second);
    names_.erase(found);
  }
}

void RunStore::Drop(size_t index) {
  RunTable::Record& record = shared_.records[index];
  record.number.store(0, std::memory_order_release);
  if (record.owns != 0) {
    for (size_t i = 0; i < record.count; ++i) {
      (void)close(record.files[i].fd);
    }
  }
  free_.push_back(index);
}

Expected<void> RunStore::SpawnTls(int line_fd) const {
  if (getppid() != keeper_) {
    return MakeError(EPIPE, "the keeper is gone");
  }
  // The keeper takes it over.
  UniqueFd its(fcntl(line_fd, F_DUPFD_CLOEXEC, 0));
  const int number = its.get();
  if (number < 0 ||
      send(line_fd_, &number, sizeof number, MSG_DONTWAIT | MSG_NOSIGNAL) != sizeof number) {
    return ErrnoError("ask the keeper for a process");
  }
  (void)its.Release();
  return {};
}

}  // namespace oakum::cli
