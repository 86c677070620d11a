#include "agent/server/unix_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <thread>
#include <utility>

#include "base/file.h"
#include "base/trusted_path.h"

namespace oakum::agent {

namespace {

constexpr int kBacklog = 1'024;
constexpr size_t kMaxGroups = 65'536;  // NGROUPS_MAX

Expected<struct sockaddr_un> Address(const std::string& path) {
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return MakeError(ENAMETOOLONG,
                     fmt::format("socket {}: the path must have 1 to {} bytes, this one has {}",
                                 path, sizeof(address.sun_path) - 1, path.size()));
  }
  memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Expected<UniqueFd> UnixSocket(int type) {
  UniqueFd fd(socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) {
    return ErrnoError("socket");
  }
  return fd;
}

const struct sockaddr* Generic(const struct sockaddr_un& address) {
  return reinterpret_cast<const struct sockaddr*>(&address);
}

// Looked at before and after: what is missing is made where nobody else can.
Expected<void> MakeDirectory(const std::string& path) {
  if (auto ours = CheckSocketPath(path); !ours) {
    return ours;
  }
  const auto parent = std::filesystem::path(path).parent_path();
  if (parent.empty()) {
    return {};
  }
  std::error_code error;
  std::filesystem::create_directories(parent, error);
  if (error) {
    return ErrnoError(error.value(), fmt::format("make the directory {}", parent.string()));
  }
  return CheckSocketPath(path);
}

// What this thread makes belongs to a group meanwhile, as far as it may say so: setfsgid(2) needs
// CAP_SETGID, or the group as one of the process's own ids.
class MakesFor {
 public:
  explicit MakesFor(std::optional<gid_t> group) : old_(static_cast<gid_t>(setfsgid(-1))) {
    if (group) {
      setfsgid(*group);
    }
  }
  ~MakesFor() { setfsgid(old_); }
  MakesFor(const MakesFor&) = delete;
  MakesFor& operator=(const MakesFor&) = delete;

 private:
  const gid_t old_;
};

// The group's members may connect from here on. Who owns a file may give it to a supplementary
// group of theirs (chown(2)).
Expected<void> OpenToGroup(const std::string& path, const struct stat& status, gid_t group) {
  if (status.st_gid != group && lchown(path.c_str(), static_cast<uid_t>(-1), group) != 0) {
    return ErrnoError(fmt::format("socket {}: give it to group {}", path, group));
  }
  if (chmod(path.c_str(), 0660) != 0) {
    return ErrnoError(fmt::format("socket {}: chmod", path));
  }
  return {};
}

// Two agents that start at the same moment would both find a dead socket and replace each other's.
Expected<UniqueFd> Lock(const std::string& path) {
  const std::string name = path + ".lock";
  UniqueFd fd(open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) {
    return ErrnoError(fmt::format("open {}", name));
  }
  if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) {
      return MakeError(EADDRINUSE, fmt::format("socket {}: another agent listens there", path));
    }
    return ErrnoError(fmt::format("flock {}", name));
  }
  return fd;
}

Expected<void> RemoveDeadSocket(const std::string& path, const struct sockaddr_un& address,
                                int type) {
  struct stat status = {};
  if (lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) {
      return {};
    }
    return ErrnoError(fmt::format("socket {}", path));
  }
  if (!S_ISSOCK(status.st_mode)) {
    return MakeError(EEXIST, fmt::format("socket {}: something else has that name; move it away or "
                                         "choose another path",
                                         path));
  }
  auto probe = UnixSocket(type);
  if (!probe) {
    return std::unexpected(std::move(probe.error()));
  }
  // ECONNREFUSED: nobody listens (connect(2)). EAGAIN: somebody does, and is busy.
  if (connect(probe->get(), Generic(address), sizeof(address)) == 0 || errno != ECONNREFUSED) {
    return MakeError(EADDRINUSE, fmt::format("socket {}: another program listens there", path));
  }
  if (unlink(path.c_str()) != 0) {
    return ErrnoError(fmt::format("remove the dead socket {}", path));
  }
  return {};
}

// Takes its names from a socket and a lock that are a process's which has ended, but for a thread
// that the kernel does not let go of: nobody will ever answer there.
void ForgetEnded(const std::string& path, int type) {
  const auto address = Address(path);
  auto probe = UnixSocket(type);
  ucred peer = {};
  socklen_t length = sizeof peer;
  // The credentials are those of whoever called listen(2) (unix(7)).
  if (address && probe && connect(probe->get(), Generic(*address), sizeof(*address)) == 0 &&
      getsockopt(probe->get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
      ProcessHasEnded(peer.pid)) {
    unlink(path.c_str());
    unlink((path + ".lock").c_str());
  }
}

}  // namespace

Expected<UnixListener> UnixListener::Create(const std::string& path, int type,
                                            std::optional<gid_t> group,
                                            std::chrono::milliseconds patience) {
  constexpr std::chrono::milliseconds kBetweenTries{5};
  const auto until = std::chrono::steady_clock::now() + patience;
  for (;;) {
    auto made = TryToCreate(path, type, group);
    if (made || made.error().code != EADDRINUSE || std::chrono::steady_clock::now() >= until) {
      return made;
    }
    ForgetEnded(path, type);
    std::this_thread::sleep_for(kBetweenTries);
  }
}

Expected<UnixListener> UnixListener::TryToCreate(const std::string& path, int type,
                                                 std::optional<gid_t> group) {
  const auto address = Address(path);
  if (!address) {
    return std::unexpected(address.error());
  }
  if (auto made = MakeDirectory(path); !made) {
    return std::unexpected(std::move(made.error()));
  }
  auto lock = Lock(path);
  if (!lock) {
    return std::unexpected(std::move(lock.error()));
  }
  UnixListener listener(path, std::move(*lock));
  if (auto removed = RemoveDeadSocket(path, *address, type); !removed) {
    return std::unexpected(std::move(removed.error()));
  }
  auto socket = UnixSocket(type);
  if (!socket) {
    return std::unexpected(std::move(socket.error()));
  }
  // bind(2) gives the path the mode of the socket's own inode, less the umask (net/unix/af_unix.c,
  // unix_bind_bsd): there is no moment at which others may connect.
  if (fchmod(socket->get(), 0600) != 0) {
    return ErrnoError(fmt::format("socket {}: fchmod", path));
  }
  {
    const MakesFor makes_for(group);
    if (bind(socket->get(), Generic(*address), sizeof(*address)) != 0) {
      return ErrnoError(fmt::format("socket {}: bind", path));
    }
  }
  struct stat status = {};
  if (lstat(path.c_str(), &status) == 0) {
    listener.device_ = status.st_dev;
    listener.inode_ = status.st_ino;
  }
  if (group) {
    if (auto opened = OpenToGroup(path, status, *group); !opened) {
      return std::unexpected(std::move(opened.error()));
    }
  }
  if (listen(socket->get(), kBacklog) != 0) {
    return ErrnoError(fmt::format("socket {}: listen", path));
  }
  listener.socket_ = std::move(*socket);
  return listener;
}

UnixListener::~UnixListener() {
  struct stat status = {};
  if (lock_ && inode_ != 0 && lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
      status.st_ino == inode_) {
    unlink(path_.c_str());
  }
}

Expected<void> CheckSocketPath(const std::string& path) {
  std::error_code error;
  const auto absolute = std::filesystem::absolute(path, error);
  if (error) {
    return ErrnoError(error.value(), fmt::format("socket {}", path));
  }
  auto ours = CheckOnlyOursToReplace(absolute);
  return ours ? std::move(ours) : std::unexpected(std::move(ours.error()).Context("socket"));
}

bool ProcessHasEnded(pid_t pid) {
  if (pid <= 0) {
    return false;  // in a pid namespace that is not seen from here
  }
  constexpr size_t kMaxStat = 4096;
  const auto text = ReadFile(fmt::format("/proc/{}/stat", pid), kMaxStat);
  if (!text) {
    return text.error().code == ENOENT;
  }
  const size_t at = text->rfind(") ");
  return at != std::string::npos && at + 2 < text->size() &&
         ((*text)[at + 2] == 'Z' || (*text)[at + 2] == 'X');
}

Expected<UniqueFd> Accept(int listener_fd) {
  UniqueFd fd(accept4(listener_fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!fd) {
    return ErrnoError("accept4");
  }
  return fd;
}

Expected<Peer> PeerOf(int socket_fd) {
  struct ucred credentials = {};
  socklen_t length = sizeof(credentials);
  if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return ErrnoError("SO_PEERCRED");
  }
  return Peer{.uid = credentials.uid, .gid = credentials.gid, .pid = credentials.pid};
}

bool PeerHasGroup(int socket_fd, gid_t group) {
  if (const auto peer = PeerOf(socket_fd); peer && peer->gid == group) {
    return true;
  }
  std::vector<gid_t> groups(kMaxGroups);
  auto length = static_cast<socklen_t>(groups.size() * sizeof(gid_t));
  if (getsockopt(socket_fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length) != 0) {
    return false;
  }
  groups.resize(length / sizeof(gid_t));
  return std::ranges::find(groups, group) != groups.end();
}

namespace {

Expected<ReceivedMessage> ReceiveWith(int socket_fd, std::span<char> buffer, int flags) {
  struct iovec data = {.iov_base = buffer.data(), .iov_len = buffer.size()};
  alignas(struct cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxDescriptorsPerMessage)>
      control;
  struct msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t got = recvmsg(socket_fd, &message, flags | MSG_CMSG_CLOEXEC);
  if (got < 0) {
    return ErrnoError("recvmsg");
  }
  ReceivedMessage received;
  received.bytes = static_cast<size_t>(got);
  for (struct cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) {
      continue;
    }
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
      received.fds.emplace_back(fd);
    }
  }
  if ((message.msg_flags & MSG_CTRUNC) != 0) {
    return received.fds.size() < kMaxDescriptorsPerMessage
               ? MakeError(EMFILE, "descriptors were cut off: no room in the descriptor table")
               : MakeError(EMSGSIZE, fmt::format("descriptors were cut off: more than {} in one "
                                                 "message",
                                                 kMaxDescriptorsPerMessage));
  }
  return received;
}

}  // namespace

Expected<ReceivedMessage> ReceiveMessage(int socket_fd, std::span<char> buffer) {
  return ReceiveWith(socket_fd, buffer, 0);
}

Expected<ReceivedMessage> ReceiveWhole(int socket_fd, std::span<char> buffer) {
  // What is looked at stays where it is, descriptors included (unix(7)).
  auto seen = ReceiveWith(socket_fd, buffer, MSG_PEEK);
  // The same bytes again, and without room for descriptors none of those.
  if (seen && seen->bytes != 0 &&
      recv(socket_fd, buffer.data(), seen->bytes, 0) != static_cast<ssize_t>(seen->bytes)) {
    return ErrnoError("recv");
  }
  return seen;
}

bool HasRoomForMessage() {
  std::array<UniqueFd, kMaxDescriptorsPerMessage> some;
  return std::ranges::all_of(some, [](UniqueFd& fd) {
    fd.Reset(eventfd(0, EFD_CLOEXEC));
    return fd.valid();
  });
}

}  // namespace oakum::agent
