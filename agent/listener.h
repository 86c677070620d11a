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

#include "agent/event_loop.h"
#include "agent/unix_socket.h"
#include "base/error.h"
#include "base/log.h"
#include "base/unique_fd.h"
#include "oci/container_state.h"

namespace oakum::agent {

// Runtimes that are connected at a time. crun connects when a container is created and sends when
// it is started, so that each container which waits for its start holds one.
inline constexpr size_t kMaxRuntimeConnections = 4'096;
// One container process state, annotations included.
inline constexpr size_t kMaxStateBytes = 1U << 20;
// Descriptors that one connection may send before its state is complete.
inline constexpr size_t kMaxStateDescriptors = kMaxDescriptorsPerMessage;

struct ListenerCounts {
  uint64_t connections = 0;  // open now
  uint64_t accepted = 0;
  uint64_t refused = 0;   // wrong user, or beyond the bound
  uint64_t failed = 0;    // connections that ended without a state that could be used
  uint64_t attached = 0;  // states handed on
};

// Accepts connections on the path that config.json names as listenerPath ("Container process
// state", runtime-spec config-linux.md) and hands on each complete state with its descriptor. A
// connection has no time limit; whatever is wrong with one is logged and ends it alone. Lives on
// the event loop's thread.
class Listener {
 public:
  // An error is logged with the container's id; the descriptor is the callback's in any case.
  using Attach =
      std::function<Expected<void>(const oci::ContainerProcessState& state, UniqueFd notify_fd)>;

  // `loop` and `log` outlive the listener. Errors: UnixListener::Create's, epoll_ctl(2)'s.
  [[nodiscard]] static Expected<std::unique_ptr<Listener>> Create(EventLoop& loop,
                                                                  const std::string& path,
                                                                  Attach attach, const Log& log);
  ~Listener();
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;

  [[nodiscard]] ListenerCounts Counts() const;

 private:
  struct Connection {
    UniqueFd socket;
    oci::ObjectFramer framer{kMaxStateBytes};
    std::vector<UniqueFd> fds;
    uint64_t bytes = 0;
    // The state has been handed on; the runtime closes when it likes. In done_ at `position`.
    std::optional<std::list<int>::iterator> position;
  };

  Listener(EventLoop& loop, UnixListener socket, Attach attach, const Log& log);

  void AcceptAll();
  void PauseAccepting(const Error& error);
  void Admit(UniqueFd socket);
  [[nodiscard]] bool MakeRoom();
  [[nodiscard]] Expected<void> Watch(int fd);
  void Read(int fd);
  void ReadLater(int fd);
  // False when the connection has ended.
  [[nodiscard]] bool ReadOnce(int fd, Connection& connection);
  [[nodiscard]] Expected<void> Take(Connection& connection, std::string_view piece);
  [[nodiscard]] Expected<void> Deliver(Connection& connection, std::string_view text);
  void Fail(int fd, std::string_view what);
  void Close(int fd);

  EventLoop& loop_;
  UnixListener socket_;
  Attach attach_;
  const Log& log_;
  std::vector<char> buffer_;
  std::unordered_map<int, Connection> connections_;  // by descriptor
  std::list<int> done_;                              // oldest first
  EventLoop::TimerId resume_ = EventLoop::TimerId::kNone;
  std::set<int> later_;  // connections that are not read from until there is room
  EventLoop::TimerId read_again_ = EventLoop::TimerId::kNone;
  ListenerCounts counts_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_LISTENER_H_
