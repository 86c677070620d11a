// Connections through proxies that the next agent goes on with.
#ifndef OAKUM_AGENT_PROXY_KEPT_RELAYS_H_
#define OAKUM_AGENT_PROXY_KEPT_RELAYS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "agent/kept/fd_store.h"
#include "base/log.h"

namespace oakum::agent {

class SessionCore;

// Descriptors of a connection, -1 where it has fewer. Of a relay: the container's side, the
// proxy's, of the way to the proxy the pipe's read end and of the other one's the write end, which
// tells them apart; opened again (proc_pid_fd(5)) each is the other end too. Only the first: a
// relay whose bytes this process looks at or encrypts, which nobody else can go on with. Of one in
// a TlsProcess: the container's side and the agent's end of its pair. Of one that waits for its
// proxy: the two sockets of a HeldSocket.
using KeptEnds = std::array<int, kMaxKeptFds - 1>;

// Those of one agent, as far as they are handed over. Thread-safe.
class KeptRelays {
 public:
  enum class Result : uint8_t {
    kKept,
    kLater,  // the store takes nothing now
    kNever,  // there are as many as there may be
  };

  // The store outlives it; null: nothing is kept.
  KeptRelays(FdStore* store, const Log& log);
  KeptRelays(const KeptRelays&) = delete;
  KeptRelays& operator=(const KeptRelays&) = delete;

  // Whether a connection is handed over in its first moment (FdStore::KeepsAtOnce()), or there is
  // nobody to hand it to.
  [[nodiscard]] bool KeepsAtOnce() const { return store_ == nullptr || store_->KeepsAtOnce(); }

  // How many there may be in all: each is kMaxKeptFds descriptors of whoever keeps, who has to
  // have room for all sessions too.
  static constexpr size_t kMax = 4096;
  // A sixteenth of RLIMIT_NOFILE (getrlimit(2)), but kMax at most.
  [[nodiscard]] static size_t MaxByLimit();

  // The descriptors stay open until Forget() or LetGo().
  [[nodiscard]] Result Keep(const std::string& name, std::weak_ptr<SessionCore> session,
                            const KeptEnds& ends);
  // One that the store has already.
  void TakeUp(const std::string& name, std::weak_ptr<SessionCore> session, const KeptEnds& ends);
  // It has ended.
  void Forget(const std::string& name);
  // It is for the next agent: the store keeps it.
  void LetGo(const std::string& name);

  // The store keeps nothing any more of what it was handed: all is to be handed over again.
  void KeepAgain();
  // Returns how many are left.
  size_t KeepRest();

 private:
  struct Entry {
    std::weak_ptr<SessionCore> session;
    KeptEnds ends = {};
    bool handed = true;
  };
  // False: the store takes nothing now.
  [[nodiscard]] bool HandOver(const std::string& name, const Entry& entry, bool waits);

  FdStore* const store_;
  const size_t max_;
  const Log& log_;
  std::mutex mutex_;
  bool said_full_ = false;
  std::map<std::string, Entry> entries_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_KEPT_RELAYS_H_
