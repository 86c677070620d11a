// What a guard of `oakum run` has that the next one goes on with.
#ifndef OAKUM_CLI_RUN_STORE_H_
#define OAKUM_CLI_RUN_STORE_H_

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "agent/kept/fd_store.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::cli {

// A guard and its keeper have one table of descriptors (clone(2), CLONE_FILES), so that nothing is
// handed over: what the guard has stays open when it is killed. Memory that both have says which
// descriptors there are by what name; all others are closed then.

inline constexpr char kListenerName[] = "listener";

// Forks, as long as there is one thread. What either of the two processes opens or closes, the
// other has opened or closed: a UniqueFd that there is in both must be let go of in one. -1 with
// errno.
[[nodiscard]] pid_t ForkSharingDescriptors();

// That memory. A record is there as a whole or not at all, whenever its writer is killed.
class RunTable {
 public:
  static constexpr size_t kMaxRecords = 8192;

  // Errors: mmap(2)'s.
  [[nodiscard]] static Expected<std::unique_ptr<RunTable>> Create();
  ~RunTable();
  RunTable(const RunTable&) = delete;
  RunTable& operator=(const RunTable&) = delete;

  // The descriptors that there are now are the keeper's own. Before there is a guard that opens
  // any.
  void NoteOwn();
  void AddOwn(int fd) { own_.insert(fd); }
  void DropOwn(int fd) { own_.erase(fd); }
  // The program that is guarded; 0: it is not about to begin yet.
  [[nodiscard]] pid_t program() const;

  // In the keeper, once the guard has died: what it had kept, as descriptors of the caller's; from
  // then on those that the records name are the records' own. Closes all that is nobody's.
  [[nodiscard]] std::vector<agent::KeptItem> TakeAll();
  // Likewise: closes all that is not the keeper's.
  void CloseAll() const;

 private:
  friend class RunStore;
  struct File {
    int32_t fd;
    uint64_t device;  // fstat(2): of the file that is meant, whatever that number becomes
    uint64_t inode;
  };
  struct Record;
  struct Shared;

  static void CloseAllBut(const std::set<int>& wanted);

  explicit RunTable(Shared* shared) : shared_(shared) {}

  Shared* const shared_;
  std::set<int> own_;
};

// The guard's side.
class RunStore final : public agent::FdStore {
 public:
  // `line_fd`: to the keeper, the parent `keeper`, who is asked for processes there (SpawnTls).
  RunStore(RunTable& table, int line_fd, pid_t keeper);

  // Errors: ENOSPC beyond kMaxRecords, EMFILE.
  [[nodiscard]] Expected<void> Keep(const std::string& name, std::span<const int> fds) override;
  void Forget(const std::string& name) override;
  [[nodiscard]] bool KeepsAtOnce() const override { return true; }
  // Says that the program is about to begin, and keeps its listener by the name kListenerName.
  // Errors: as above.
  [[nodiscard]] Expected<void> KeepProgram(pid_t program, int listener_fd);

  // Has the keeper start a process that speaks TLS for whoever has the other end of `line_fd`
  // (agent/proxy/tls_process.h). It outlives the guard, not the keeper. Thread-safe. Errors: EPIPE
  // where the keeper is gone, EAGAIN where it is behind.
  [[nodiscard]] Expected<void> SpawnTls(int line_fd) const;

 private:
  void Drop(size_t index);

  RunTable::Shared& shared_;
  const int line_fd_;
  const pid_t keeper_;
  std::mutex mutex_;
  std::map<std::string, size_t> names_;
  std::vector<size_t> free_;
};

}  // namespace oakum::cli

#endif  // OAKUM_CLI_RUN_STORE_H_
