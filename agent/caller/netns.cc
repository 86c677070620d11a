#include "agent/caller/netns.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <thread>

#include "agent/caller/identity.h"

namespace oakum::agent {

namespace {

constexpr int kSoNetnsCookie = 71;  // asm-generic/socket.h; younger than some headers

constexpr uint64_t kEnter = CapabilityBit(CAP_SYS_ADMIN) | kPerformerCapabilities;

// Whether a thread that has left the agent's network namespace is let in again: setns(2) asks for
// CAP_SYS_ADMIN in the user namespace that owns it, which an agent in a user namespace of its own
// (rootless podman's) does not have.
bool ComesBack(int own_fd) {
  static const bool comes_back = [own_fd] {
    const ScopedCapabilities raised(kEnter, kPerformerCapabilities);
    return setns(own_fd, CLONE_NEWNET) == 0;
  }();
  return comes_back;
}

// With a thread that ends there.
Expected<void> VisitForGood(int net_fd, const std::function<void()>& body) {
  int error = 0;
  std::thread visitor;
  try {
    visitor = std::thread([&] {
      SetEffectiveCapabilities(kEnter);
      error = setns(net_fd, CLONE_NEWNET) == 0 ? 0 : errno;
      SetEffectiveCapabilities(kPerformerCapabilities);
      if (error == 0) {
        body();
      }
    });
  } catch (const std::system_error& no_room) {
    return MakeError(no_room.code().value(), "start a thread that enters a network namespace");
  }
  visitor.join();
  if (error != 0) {
    return ErrnoError(error, geteuid() == 0 ? "enter a network namespace"
                                            : "enter a network namespace (an ordinary user's agent "
                                              "is started with \"podman unshare oakum-agent\")");
  }
  return {};
}

}  // namespace

uint64_t NetworkCookie(int socket_fd) {
  uint64_t cookie = 0;
  socklen_t length = sizeof cookie;
  return getsockopt(socket_fd, SOL_SOCKET, kSoNetnsCookie, &cookie, &length) == 0 ? cookie : 0;
}

uint64_t OwnNetworkCookie() {
  const UniqueFd probe(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  return probe ? NetworkCookie(probe.get()) : 0;
}

Expected<UniqueFd> NetworkOf(int socket_fd, uint64_t own_netns) {
  if (own_netns != 0 && NetworkCookie(socket_fd) == own_netns) {
    return UniqueFd();
  }
  const ScopedCapabilities raised(CapabilityBit(CAP_NET_ADMIN) | kPerformerCapabilities,
                                  kPerformerCapabilities);
  UniqueFd net(ioctl(socket_fd, SIOCGSKNS));
  if (!net) {
    return ErrnoError("the network namespace of a socket");
  }
  return net;
}

Expected<void> WithNetwork(int net_fd, const std::function<void()>& body) {
  if (net_fd < 0) {
    body();
    return {};
  }
  const UniqueFd own(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!own) {
    return ErrnoError("open /proc/thread-self/ns/net");
  }
  if (!ComesBack(own.get())) {
    return VisitForGood(net_fd, body);
  }
  SetEffectiveCapabilities(kEnter);
  if (setns(net_fd, CLONE_NEWNET) != 0) {
    const int error = errno;
    SetEffectiveCapabilities(kPerformerCapabilities);
    return ErrnoError(error, "enter a network namespace");
  }
  SetEffectiveCapabilities(kPerformerCapabilities);
  body();
  SetEffectiveCapabilities(kEnter);
  if (setns(own.get(), CLONE_NEWNET) != 0) {
    // A thread that is stuck in a container's namespace must not serve anybody.
    std::abort();
  }
  SetEffectiveCapabilities(kPerformerCapabilities);
  return {};
}

}  // namespace oakum::agent
