#include "agent/unix_peer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "agent/identity.h"

namespace oakum::agent {

namespace {

// What lets a privileged process of the container pass permission checks of files.
constexpr uint64_t kFileCapabilities =
    CapabilityBit(CAP_DAC_OVERRIDE) | CapabilityBit(CAP_DAC_READ_SEARCH);

std::string ReadLink(const std::string& path) {
  char target[PATH_MAX];
  const ssize_t length = readlink(path.c_str(), target, sizeof target);
  return {target, length > 0 ? static_cast<size_t>(length) : 0};
}

// The part of `path` below `root`, both as the agent sees them: a container that was not pivoted
// (a plain chroot) shows its root in front.
std::string BelowRoot(std::string path, const std::string& root) {
  if (root.size() > 1 && path.starts_with(root) &&
      (path.size() == root.size() || path[root.size()] == '/')) {
    path.erase(0, root.size());
  }
  return path.empty() ? "/" : path;
}

SockaddrCopy PathAddress(const std::string& path) {
  sockaddr_un un = {};
  un.sun_family = AF_UNIX;
  memcpy(un.sun_path, path.c_str(), path.size() + 1);
  SockaddrCopy out;
  memcpy(&out.storage, &un, sizeof un);
  out.length = sizeof un;
  return out;
}

// A backlog that is full has nothing to poll on: the connecting socket is always writable. So the
// call is tried again, more slowly the longer it takes.
class UnixConnectOperation final : public Operation {
 public:
  UnixConnectOperation(UniqueFd socket, UnixPeer peer, TaskStatus status, bool same_namespace)
      : socket_(std::move(socket)),
        peer_(std::move(peer)),
        status_(std::move(status)),
        same_namespace_(same_namespace) {}

  std::optional<Answer> Step(const Stepper& stepper) override {
    const int error = Try(stepper.uring);
    if (error == EAGAIN) {
      delay_ = std::min(delay_ * 2, kSlowest);
      return std::nullopt;
    }
    return Answer::Performed(0, error);
  }

  Answer RunBlocking() override {
    const ScopedIdentity identity(status_, same_namespace_, kFileCapabilities,
                                  kPerformerCapabilities);
    const int error = !identity.ok() ? EPERM : ConnectHere();
    return Answer::Performed(0, error);
  }
  bool needs_thread() const override { return threads_; }
  Wait wait() const override { return {0, delay_}; }
  int socket_fd() const override { return socket_.get(); }
  std::optional<Clock::duration> timeout() const override {
    return SocketTimeout(socket_.get(), SO_SNDTIMEO);
  }

  void UseThread() { threads_ = true; }

  // 0, EAGAIN when it would wait, or connect(2)'s errno value.
  [[nodiscard]] int Try(UringCalls* uring) {
    const ScopedIdentity identity(status_, same_namespace_, kFileCapabilities,
                                  kPerformerCapabilities);
    if (!identity.ok()) {
      return EPERM;
    }
    if (uring == nullptr) {
      return ConnectHere();
    }
    const int error = uring->Connect(socket_.get(), peer_.address.get(), peer_.address.length);
    return error == EINPROGRESS ? EAGAIN : error;
  }
  UniqueFd TakeSocket() { return std::move(socket_); }

 private:
  static constexpr std::chrono::milliseconds kSlowest{20};

  [[nodiscard]] int ConnectHere() const {
    return connect(socket_.get(), peer_.address.get(), peer_.address.length) == 0 ? 0 : errno;
  }

  UniqueFd socket_;
  const UnixPeer peer_;
  const TaskStatus status_;
  const bool same_namespace_;
  bool threads_ = false;
  std::chrono::milliseconds delay_{1};
};

}  // namespace

int FindUnixPeer(pid_t tid, const TaskStatus& status, const Destination& destination,
                 const SockaddrCopy& address, UnixPeer& out) {
  if (destination.kind == Destination::Kind::kUnixAbstract) {
    out.name = fmt::format("@{}", destination.name);
    out.address = address;
    return 0;
  }
  const std::string root_link = fmt::format("/proc/{}/root", tid);
  const UniqueFd root(open(root_link.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) {
    return EACCES;
  }
  const std::string root_path = ReadLink(root_link);
  std::string path(destination.name);
  if (!path.starts_with('/')) {
    path = fmt::format("{}/{}", BelowRoot(ReadLink(fmt::format("/proc/{}/cwd", tid)), root_path),
                       path);
  }
  const bool same_namespace = InOwnUserNamespace(tid);
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT;
  {
    const ScopedIdentity identity(status, same_namespace, kFileCapabilities,
                                  kPerformerCapabilities);
    if (!identity.ok()) {
      return EPERM;
    }
    out.inode.Reset(
        static_cast<int>(syscall(SYS_openat2, root.get(), path.c_str(), &how, sizeof how)));
    if (!out.inode) {
      return errno;
    }
  }
  const std::string link = fmt::format("/proc/self/fd/{}", out.inode.get());
  out.name = BelowRoot(ReadLink(link), root_path);
  out.address = PathAddress(link);
  return 0;
}

Outcome ConnectUnix(const CallContext& context, const GuardedCall& call, PinnedSocket socket,
                    const Destination& destination, const SockaddrCopy& address) {
  const pid_t tid = call.notification.tid;
  auto status = ReadTaskStatus(tid);
  if (!status) {
    return Outcome::Of(Answer::Error(EACCES));
  }
  UnixPeer peer;
  const int found = FindUnixPeer(tid, *status, destination, address, peer);
  const bool same_namespace = InOwnUserNamespace(tid);
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  if (found != 0) {
    // Nothing is there to be reached: the kernel would say the same.
    return Outcome::Of(context.core.Audits() ? Answer::Continue() : Answer::Error(found));
  }
  switch (context.core.Judge(call, policy::UnixRequest{policy::Operation::kConnect, peer.name})) {
    case Ruling::kPass:
      return Outcome::Of(Answer::Continue());
    case Ruling::kRefuse:
      return Outcome::Of(Answer::Error(EACCES));
    case Ruling::kPerform:
      break;
  }
  const bool blocking =
      (fcntl(socket.fd.get(), F_GETFL) & O_NONBLOCK) == 0 && socket.type != SOCK_DGRAM;
  auto operation = std::make_unique<UnixConnectOperation>(std::move(socket.fd), std::move(peer),
                                                          std::move(*status), same_namespace);
  if (blocking && context.uring == nullptr) {
    operation->UseThread();
    return Outcome::Of(std::move(operation));
  }
  const int error = operation->Try(blocking ? context.uring : nullptr);
  if (blocking && error == EAGAIN) {
    return Outcome::Of(std::move(operation));
  }
  return Outcome::Of(Answer::Performed(0, error), operation->TakeSocket());
}

}  // namespace oakum::agent
