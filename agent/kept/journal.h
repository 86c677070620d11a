// What of a session outlives its agent: a file in memory with the session's state and the calls
// that are under way.
#ifndef OAKUM_AGENT_KEPT_JOURNAL_H_
#define OAKUM_AGENT_KEPT_JOURNAL_H_

#include <linux/seccomp.h>
#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// The layout of the file. An agent takes sessions over that were kept in this version and in no
// other: a change of the layout, or of what a field means, is another version.
inline constexpr uint32_t kJournalVersion = 1;
// More than one session may have under way (reactor.cc, kMaxWaitingOfSession). Only slots that have
// been used take memory.
inline constexpr size_t kJournalSlots = 4352;
inline constexpr size_t kMaxNotificationSize = 128;
// The longest state; beyond it a session is not kept. A listener's state message is at most 1 MiB.
inline constexpr size_t kMaxKeptState = size_t{4} << 20;

// How far a call has come.
enum class JournalPhase : uint32_t {
  kReceived = 0,    // nothing that is not in `progress` has been done for it
  kPerforming = 1,  // what `act` says is being done, or has just been done
  kDone = 2,        // `value` or `error` is the answer
};

// What is performed, as far as it matters to whoever finds it half done.
enum class JournalAct : uint32_t {
  kNone = 0,
  kConnect = 1,      // connect(2) of an internet or netlink socket
  kConnectUnix = 2,  // ... of a unix socket
  kCarry = 3,        // connect(2) by way of a proxy, a resolver, or a check
  // One message on a datagram socket, or the entry of a sendmmsg(2); or one that is received there,
  // and has been written where it is wanted.
  kSend = 4,
  kSendStream = 5,  // a piece of a stream
  kBind = 6,
};

// One call. Written by the thread that has it in hand, with plain stores: a process that is killed
// leaves what it had stored, for its system calls that do not wait run to their end.
struct alignas(64) JournalSlot {
  // Where SECCOMP_IOCTL_NOTIF_RECV writes, so that no call is received without being noted. Its id
  // is 0 while there is none (ids start at a random number, kernel/seccomp.c).
  union {
    seccomp_notif notification;
    std::byte room[kMaxNotificationSize];
  };
  std::atomic<JournalPhase> phase;
  std::atomic<JournalAct> act;
  int32_t error;      // kDone
  int32_t socket;     // kPerforming: the socket's number in the caller; -1 where it does not matter
  int64_t value;      // kDone; kPerforming: what the answer is if it has been done
  uint64_t progress;  // bytes or messages that have been sent, which no error may hide
  uint64_t cookie;    // SO_COOKIE of what was performed on; 0: nothing was, or it does not matter
  uint64_t written;   // kSendStream: what StreamPosition() was before; 0: unknown
  uint32_t sigpipe;   // kDone: the caller also gets SIGPIPE

  [[nodiscard]] bool used() const { return notification.id != 0; }
  // From here on it may have been done.
  void Begin(JournalAct what, int64_t value_if_done = 0, uint64_t socket_cookie = 0) {
    value = value_if_done;
    cookie = socket_cookie;
    act.store(what, std::memory_order_relaxed);
    phase.store(JournalPhase::kPerforming, std::memory_order_release);
  }
  // What Begin() announced is over, and `sent` is all that has come of it so far.
  void End(uint64_t sent) {
    progress = sent;
    phase.store(JournalPhase::kReceived, std::memory_order_release);
  }
  void Finish(int64_t result, int errno_value, uint64_t socket_cookie, bool raises_sigpipe) {
    value = result;
    error = errno_value;
    cookie = socket_cookie;
    sigpipe = raises_sigpipe ? 1 : 0;
    phase.store(JournalPhase::kDone, std::memory_order_release);
  }
  // As if nothing had been done for its call yet.
  void Restart();
  // Free, for another call.
  void Clear();
};

// How many bytes have been written to a TCP socket, and one; 0 for other sockets. What another
// thread sends meanwhile counts as well.
[[nodiscard]] uint64_t StreamPosition(int socket_fd);

class Journal {
 public:
  // A journal of a new session. Errors: EMSGSIZE beyond kMaxKeptState; memfd_create(2)'s,
  // ftruncate(2)'s, mmap(2)'s.
  [[nodiscard]] static Expected<Journal> Create(std::string_view state);
  // One that was kept. Errors: ENOTSUP when it has another version, EINVAL when it is no journal.
  [[nodiscard]] static Expected<Journal> Open(UniqueFd file);
  // Whether `fd` is a journal, and one of this version. Errors: as above. Changes nothing.
  [[nodiscard]] static Expected<void> Check(int fd);
  Journal(Journal&& other) noexcept;
  Journal& operator=(Journal&&) = delete;
  ~Journal();

  [[nodiscard]] int fd() const { return file_.get(); }
  // What Create() was given. Errors: EINVAL.
  [[nodiscard]] Expected<std::string> State() const;
  // Something that is known of the session only later, in the place of what was noted before: there
  // as a whole, or not at all. One thread at a time. Errors: EMSGSIZE beyond kMaxKeptState,
  // pwrite(2)'s.
  [[nodiscard]] Expected<void> Note(std::string_view text);
  // Empty where nothing was noted. Errors: EINVAL.
  [[nodiscard]] Expected<std::string> Noted() const;
  // The slots that were in use when it was opened, which stay taken until they are released.
  [[nodiscard]] std::vector<JournalSlot*> InUse();

  // A free slot, cleared; null when there is none. Thread-safe.
  [[nodiscard]] JournalSlot* Take();
  // Its call is over. Thread-safe.
  void Release(JournalSlot* slot);
  // Gives up memory that no call under way needs: it is taken again with the next one. Thread-safe.
  void LetGo();
  // From here on slots stay as they are: this agent ends, and the next one goes on with them.
  void Freeze() { frozen_.store(true); }

 private:
  Journal(UniqueFd file, JournalSlot* slots);

  UniqueFd file_;
  JournalSlot* slots_;
  std::mutex mutex_;
  size_t fresh_ = 0;            // from here on none has been taken
  std::vector<uint16_t> free_;  // below that
  std::atomic<bool> frozen_{false};
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_KEPT_JOURNAL_H_
