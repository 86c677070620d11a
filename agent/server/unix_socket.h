// Unix stream sockets at a path, and messages with descriptors (unix(7)).
#ifndef OAKUM_AGENT_SERVER_UNIX_SOCKET_H_
#define OAKUM_AGENT_SERVER_UNIX_SOCKET_H_

#include <sys/socket.h>
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// A listening socket that owns its path: while it lives no other agent takes the path, and the path
// goes with it.
class UnixListener {
 public:
  // Listens at `path` with mode 0600, from its first moment on; with a `group`, that group's and
  // 0660. Directories that are missing are made (0755). A socket that a dead agent left behind is
  // replaced.
  // Errors: EADDRINUSE when somebody listens there, EEXIST when the path is something other than a
  // socket, ENAMETOOLONG beyond sun_path, EPERM where somebody else could put a socket in its place
  // (CheckOnlyOursToReplace), and those of the calls.
  // `type`: SOCK_STREAM or SOCK_SEQPACKET. `patience`: how long somebody who is ending may take to
  // be gone, for a caller who knows that nobody else means to listen there: a process that has
  // ended, though a thread of it is held up in the kernel, is not waited for then.
  [[nodiscard]] static Expected<UnixListener> Create(const std::string& path,
                                                     int type = SOCK_STREAM,
                                                     std::optional<gid_t> group = std::nullopt,
                                                     std::chrono::milliseconds patience = {});
  UnixListener(UnixListener&&) = default;
  UnixListener& operator=(UnixListener&&) = delete;
  ~UnixListener();

  [[nodiscard]] int fd() const { return socket_.get(); }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  [[nodiscard]] static Expected<UnixListener> TryToCreate(const std::string& path, int type,
                                                          std::optional<gid_t> group);
  UnixListener(std::string path, UniqueFd lock) : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  UniqueFd lock_;  // flock(2) on PATH.lock: held as long as we live, whatever kills us
  UniqueFd socket_;
  dev_t device_ = 0;  // of the path as we made it
  ino_t inode_ = 0;
};

// Whether nobody else could put a socket at `path` (CheckOnlyOursToReplace).
[[nodiscard]] Expected<void> CheckSocketPath(const std::string& path);

// Accepts one connection: non-blocking, close-on-exec. Errors: accept4(2)'s (EAGAIN: none waits).
[[nodiscard]] Expected<UniqueFd> Accept(int listener_fd);

// The state in proc_pid_stat(5) says that a process has ended, though a thread of it may still be
// held up in the kernel, and with it the process's descriptors. False where it cannot be told.
[[nodiscard]] bool ProcessHasEnded(pid_t pid);

// Who was at the other end when it connected, as this process's namespaces number it.
struct Peer {
  uid_t uid = 0;
  gid_t gid = 0;
  pid_t pid = 0;  // 0: not seen from here
};
// Errors: getsockopt(2)'s.
[[nodiscard]] Expected<Peer> PeerOf(int socket_fd);
// Whether it had that group, as its effective or a supplementary one.
[[nodiscard]] bool PeerHasGroup(int socket_fd, gid_t group);

// Descriptors that one message may carry. A runtime sends one; the kernel's own limit is 253.
inline constexpr size_t kMaxDescriptorsPerMessage = 16;

struct ReceivedMessage {
  size_t bytes = 0;  // 0: the other end has finished
  std::vector<UniqueFd> fds;
};

// One recvmsg(2) into `buffer`; descriptors are close-on-exec from birth. Errors: EMSGSIZE or
// EMFILE when descriptors were cut off (MSG_CTRUNC: too many, or no room in our table; those that
// came are closed), else recvmsg(2)'s (EAGAIN: nothing waits).
[[nodiscard]] Expected<ReceivedMessage> ReceiveMessage(int socket_fd, std::span<char> buffer);
// The same, but what is cut off is left where it is, to be received another time.
[[nodiscard]] Expected<ReceivedMessage> ReceiveWhole(int socket_fd, std::span<char> buffer);
// Whether this process has room for the descriptors of a message now, and for as many as the rest
// of what is done with it takes.
[[nodiscard]] bool HasRoomForMessage();

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SERVER_UNIX_SOCKET_H_
