#include "agent/calls/unix_peer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include "agent/caller/identity.h"

namespace oakum::agent {

namespace {

// What lets a privileged process of the container pass permission checks of files.
constexpr uint64_t kFileCapabilities =
    CapabilityBit(CAP_DAC_OVERRIDE) | CapabilityBit(CAP_DAC_READ_SEARCH);

SockaddrCopy PathAddress(const std::string& path) {
  sockaddr_un un = {};
  un.sun_family = AF_UNIX;
  memcpy(un.sun_path, path.c_str(), path.size() + 1);
  SockaddrCopy out;
  memcpy(&out.storage, &un, sizeof un);
  out.length = sizeof un;
  return out;
}

std::string DescriptorLink(int fd) { return fmt::format("/proc/self/fd/{}", fd); }

int OpenBelow(int root_fd, const std::string& path, UniqueFd& out) {
  open_how how = {};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT;
  out.Reset(static_cast<int>(syscall(SYS_openat2, root_fd, path.c_str(), &how, sizeof how)));
  return out ? 0 : errno;
}

// A path that begins with a link of the caller's own process in /proc, which openat2(2) cannot
// follow below another root, and which would be the agent's.
struct OwnLink {
  int fd = -1;            // /proc/self/fd/FD, /dev/fd/FD
  bool is_cwd = false;    // /proc/self/cwd; otherwise, and without `fd`, /proc/self/root
  std::string_view rest;  // what follows, with its "/"
};

std::optional<OwnLink> ParseOwnLink(std::string_view path) {
  const auto take = [&path](std::string_view start) {
    const bool starts = path.starts_with(start);
    path.remove_prefix(starts ? start.size() : 0);
    return starts;
  };
  OwnLink link;
  const bool in_proc = take("/proc/self/") || take("/proc/thread-self/");
  if (in_proc ? take("fd/") : take("/dev/fd/")) {
    const auto [end, error] = std::from_chars(path.data(), path.data() + path.size(), link.fd);
    if (error != std::errc() || link.fd < 0) {
      return std::nullopt;
    }
    path.remove_prefix(static_cast<size_t>(end - path.data()));
  } else if (in_proc && take("cwd")) {
    link.is_cwd = true;
  } else if (!in_proc || !take("root")) {
    return std::nullopt;
  }
  if (!path.empty() && path.front() != '/') {
    return std::nullopt;
  }
  link.rest = path;
  return link;
}

// Opens what `path` leads thread `tid` to (O_PATH), with its root, working directory and
// permissions. Returns 0 or an errno value.
int OpenAsCaller(const CallContext& context, pid_t tid, const TaskStatus& status,
                 const std::string& path, UniqueFd& out) {
  const std::string root_link = fmt::format("/proc/{}/root", tid);
  const UniqueFd root(open(root_link.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!root) {
    return EACCES;
  }
  const std::string root_path = ReadLinkTarget(root_link);
  const auto cwd = [&] {
    return BelowRoot(ReadLinkTarget(fmt::format("/proc/{}/cwd", tid)), root_path);
  };
  const bool same_namespace = InOwnUserNamespace(tid);
  const auto open_path = [&](const std::string& absolute) {
    const ScopedIdentity identity(status, same_namespace, kFileCapabilities,
                                  kPerformerCapabilities);
    return identity.ok() ? OpenBelow(root.get(), absolute, out) : EPERM;
  };
  const int error = open_path(path.starts_with('/') ? path : fmt::format("{}/{}", cwd(), path));
  if (error != EXDEV) {
    return error;
  }
  // A link of /proc: those of the caller's own process are followed here, others are not.
  const auto link = ParseOwnLink(path);
  if (!link) {
    return EACCES;
  }
  if (link->fd < 0) {
    return open_path(fmt::format("{}{}", link->is_cwd ? cwd() : "", link->rest));
  }
  UniqueFd file;
  if (const int missing = context.descriptors.Get(tid, link->fd, file); missing != 0) {
    return missing == EBADF ? ENOENT : missing;
  }
  if (link->rest.empty()) {
    out = std::move(file);
    return 0;
  }
  return open_path(fmt::format(
      "{}{}", BelowRoot(ReadLinkTarget(DescriptorLink(file.get())), root_path), link->rest));
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

// Whether the kernel may carry the call out, so that the server sees the caller itself.
bool MayStayNative(const CallContext& context, pid_t tid, const TaskStatus& status) {
  const policy::Policy* policy = context.policy();
  if (policy == nullptr || policy->guards_unix() || policy->mode() == policy::Mode::kAudit) {
    return false;
  }
  return context.core.container()->native_unix.AllowsConnect(tid, status);
}

Outcome PassNative(const CallContext& context, const GuardedCall& call, const TaskStatus& status,
                   const Destination& destination, const SockaddrCopy& address) {
  const policy::Policy* policy = context.policy();
  UnixPeer peer;
  if (policy != nullptr && policy->log() == policy::LogLevel::kAll) {
    (void)FindUnixPeer(context, call.notification.tid, status, destination, address, peer);
  }
  // The look at the caller is over: it must have been this caller.
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  switch (context.core.Judge(call, policy::Operation::kConnect, peer.names)) {
    case Ruling::kPerform:
    case Ruling::kPass:
    case Ruling::kCarry:
      break;
    case Ruling::kRefuse:
      return Outcome::Of(Answer::Error(EACCES));
  }
  return Outcome::Of(Answer::Continue());
}

}  // namespace

int FindUnixPeer(const CallContext& context, pid_t tid, const TaskStatus& status,
                 const Destination& destination, const SockaddrCopy& address, UnixPeer& out) {
  if (destination.kind == Destination::Kind::kUnixAbstract) {
    out.names.name = fmt::format("@{}", destination.name);
    out.names.shown = out.names.name;
    out.address = address;
    return 0;
  }
  if (const int error =
          OpenAsCaller(context, tid, status, std::string(destination.name), out.inode);
      error != 0) {
    return error;
  }
  out.address = PathAddress(DescriptorLink(out.inode.get()));
  return context.core.container()->view.Name(tid, context.policy(), out.inode.get(), out.names);
}

Outcome ConnectUnix(const CallContext& context, const GuardedCall& call, PinnedSocket socket,
                    const Destination& destination, const SockaddrCopy& address) {
  const pid_t tid = call.notification.tid;
  auto status = ReadTaskStatus(tid);
  if (!status) {
    return Outcome::Of(Answer::Error(EACCES));
  }
  if (MayStayNative(context, tid, *status)) {
    return PassNative(context, call, *status, destination, address);
  }
  UnixPeer peer;
  const int found = FindUnixPeer(context, tid, *status, destination, address, peer);
  const bool same_namespace = InOwnUserNamespace(tid);
  if (!context.core.notify().IdValid(call.notification.id)) {
    return Outcome::Of(Answer::None());
  }
  if (found != 0) {
    // Nothing is there to be reached: the kernel would say the same.
    return Outcome::Of(context.Audits() ? Answer::Continue() : Answer::Error(found));
  }
  switch (context.core.Judge(call, policy::Operation::kConnect, peer.names)) {
    case Ruling::kPass:
      return Outcome::Of(Answer::Continue());
    case Ruling::kRefuse:
      return Outcome::Of(Answer::Error(EACCES));
    case Ruling::kPerform:
    case Ruling::kCarry:
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
