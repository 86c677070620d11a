// Where runtimes hand over notify descriptors.
#ifndef OAKUM_AGENT_LISTENER_H_
#define OAKUM_AGENT_LISTENER_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "agent/server/event_loop.h"
#include "agent/server/log_limit.h"
#include "agent/server/unix_socket.h"
#include "base/error.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "oci/container_state.h"

namespace oakum::agent {

// Runtimes that are connected at a time. crun connects when a container is created and sends when
// it is started, so that each container which waits for its start holds one. Less where the limit
// of descriptors (RLIMIT_NOFILE) is low: a quarter of it.
inline constexpr size_t kMaxRuntimeConnections = 4'096;
// One container process state, annotations included.
inline constexpr size_t kMaxStateBytes = 1U << 20;
// Descriptors that one connection may send before its state is complete.
inline constexpr size_t kMaxStateDescriptors = kMaxDescriptorsPerMessage;
// What all states may take together that are not complete yet. Beyond it the connection that holds
// most is closed.
inline constexpr size_t kMaxPendingStateBytes = size_t{32} << 20;
inline constexpr size_t kMaxPendingDescriptors = 256;

struct ListenerCounts {
  uint64_t connections = 0;  // open now
  uint64_t accepted = 0;
  uint64_t refused = 0;   // wrong user, or beyond the bound
  uint64_t evicted = 0;   // closed so that another one had room
  uint64_t failed = 0;    // connections that ended without a state that could be used
  uint64_t attached = 0;  // states handed on
};

// Accepts connections on the path that config.json names as listenerPath ("Container process
// state", runtime-spec config-linux.md) and hands on each complete state with its descriptor. Only
// root and the agent's own user may connect. A connection has no time limit; whatever is wrong with
// one is logged and ends it alone. When there are too many, those go that have handed over their
// state, then as PlaceFor says. Lives on the event loop's thread.
class Listener {
 public:
  // An error is logged with the container's id; the descriptor is the callback's in any case.
  using Attach =
      std::function<Expected<void>(const oci::ContainerProcessState& state, UniqueFd notify_fd)>;

  // `loop` and `log` outlive the listener. `patience`: UnixListener::Create's. Errors:
  // UnixListener::Create's, epoll_ctl(2)'s.
  [[nodiscard]] static Expected<std::unique_ptr<Listener>> Create(
      EventLoop& loop, const std::string& path, Attach attach, const Log& log,
      std::chrono::milliseconds patience = {});
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  [[nodiscard]] ListenerCounts Counts() const;

 private:
  struct Connection {
    UniqueFd socket;
    Peer peer;
    EventLoop::Clock::time_point progress;
    oci::ObjectFramer framer{kMaxStateBytes};
    std::vector<UniqueFd> fds;
    uint64_t bytes = 0;
    size_t counted_bytes = 0;  // in pending_bytes_ and pending_fds_
    size_t counted_fds = 0;
    // The state has been handed on; the runtime closes when it likes. In done_ at `position`.
    std::optional<std::list<int>::iterator> position;
  };

  Listener(EventLoop& loop, UnixListener socket, Attach attach, const Log& log);

  void AcceptAll();
  void PauseAccepting(const Error& error);
  void Admit(UniqueFd socket);
  [[nodiscard]] bool MakeRoomFor(const Peer& newcomer);
  [[nodiscard]] Expected<void> Watch(int fd);
  void Read(int fd);
  void ReadLater(int fd);
  // False when the connection has ended.
  [[nodiscard]] bool ReadOnce(int fd, Connection& connection);
  [[nodiscard]] Expected<void> Take(Connection& connection, std::string_view piece);
  [[nodiscard]] Expected<void> Deliver(Connection& connection, std::string_view text);
  void Count(Connection& connection, size_t bytes, size_t fds);
  [[nodiscard]] int Heaviest(size_t (*weight)(const Connection&)) const;
  void Refuse(std::string_view what);
  void Fail(int fd, std::string_view what);
  void Close(int fd);

  EventLoop& loop_;
  UnixListener socket_;
  Attach attach_;
  const Log& log_;
  std::vector<char> buffer_;
  std::unordered_map<int, Connection> connections_;  // by descriptor
  std::list<int> done_;                              // oldest first
  const size_t max_connections_;
  size_t pending_bytes_ = 0;  // of states that are not complete
  size_t pending_fds_ = 0;
  LogLimit refusals_;
  LogLimit evictions_;
  LogLimit failures_;
  EventLoop::TimerId resume_ = EventLoop::TimerId::kNone;
  std::set<int> later_;  // connections that are not read from until there is room
  EventLoop::TimerId read_again_ = EventLoop::TimerId::kNone;
  ListenerCounts counts_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_LISTENER_H_
