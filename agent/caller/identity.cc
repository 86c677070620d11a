#include "agent/caller/identity.h"

#include <fmt/format.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/nsfs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>

#include "agent/caller/netns.h"
#include "base/unique_fd.h"

namespace oakum::agent {

namespace {

struct CapabilityData {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
};

bool SameFile(const struct stat& a, const struct stat& b) {
  return a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

// The raw calls change this thread only; glibc's wrappers would change all threads (setresuid(2),
// "C library/kernel differences").
long SetEuid(uid_t uid) { return syscall(SYS_setresuid, -1, uid, -1); }
long SetEgid(gid_t gid) { return syscall(SYS_setresgid, -1, gid, -1); }
long SetGroups(const std::vector<gid_t>& groups) {
  return syscall(SYS_setgroups, groups.size(), groups.data());
}

}  // namespace

void SetEffectiveCapabilities(uint64_t wanted) {
  CapabilityData caps;
  if (syscall(SYS_capget, &caps.header, caps.data) != 0) {
    return;
  }
  for (size_t i = 0; i < _LINUX_CAPABILITY_U32S_3; ++i) {
    caps.data[i].effective = static_cast<uint32_t>(wanted >> (32 * i)) & caps.data[i].permitted;
  }
  // Lowering cannot fail, and only permitted ones are raised.
  (void)syscall(SYS_capset, &caps.header, caps.data);
}

bool HasPermittedCapabilities(uint64_t wanted) {
  CapabilityData caps;
  if (syscall(SYS_capget, &caps.header, caps.data) != 0) {
    return false;
  }
  const uint64_t permitted = caps.data[0].permitted | uint64_t{caps.data[1].permitted} << 32;
  return (permitted & wanted) == wanted;
}

ScopedCapabilities::ScopedCapabilities(uint64_t during, uint64_t after) : after_(after) {
  SetEffectiveCapabilities(during);
}

ScopedCapabilities::~ScopedCapabilities() { SetEffectiveCapabilities(after_); }

ScopedIdentity::ScopedIdentity(const TaskStatus& status, bool same_user_namespace, uint64_t keep,
                               uint64_t after)
    : after_(after), own_euid_(geteuid()), own_egid_(getegid()) {
  constexpr uint64_t kSwitch = CapabilityBit(CAP_SETUID) | CapabilityBit(CAP_SETGID);
  if (own_euid_ == 0) {
    SetEffectiveCapabilities(kSwitch);
    const int count = getgroups(0, nullptr);
    own_groups_.resize(count > 0 ? static_cast<size_t>(count) : 0);
    if (count > 0 && getgroups(count, own_groups_.data()) != count) {
      own_groups_.clear();
    }
    changed_ = true;
    groups_changed_ = SetGroups(status.groups) == 0;
    // user_namespaces(7): setgroups(2) can be denied, and then nobody there can change them.
    ok_ = (groups_changed_ || status.groups == own_groups_) && SetEgid(status.egid) == 0 &&
          SetEuid(status.euid) == 0;
  } else {
    ok_ = own_euid_ == status.euid;
  }
  SetEffectiveCapabilities(same_user_namespace ? status.effective_capabilities & keep : 0);
}

ScopedIdentity::~ScopedIdentity() {
  if (changed_) {
    constexpr uint64_t kSwitch = CapabilityBit(CAP_SETUID) | CapabilityBit(CAP_SETGID);
    SetEffectiveCapabilities(kSwitch);
    // In a user namespace the agent may have groups that are not mapped there: those cannot be
    // named again, and none are fewer rights than any.
    const bool grouped = !groups_changed_ || SetGroups(own_groups_) == 0 || SetGroups({}) == 0;
    if (SetEuid(own_euid_) != 0 || SetEgid(own_egid_) != 0 || !grouped) {
      // A thread that is stuck with a container's identity must not serve anybody.
      std::abort();
    }
  }
  SetEffectiveCapabilities(after_);
}

bool InOwnUserNamespace(pid_t tid) {
  struct stat own = {};
  struct stat other = {};
  return stat("/proc/self/ns/user", &own) == 0 &&
         stat(fmt::format("/proc/{}/ns/user", tid).c_str(), &other) == 0 && SameFile(own, other);
}

bool MayBindPrivilegedPort(pid_t tid, const TaskStatus& status, int socket_fd) {
  if ((status.effective_capabilities & CapabilityBit(CAP_NET_BIND_SERVICE)) == 0) {
    return false;
  }
  if (InOwnUserNamespace(tid)) {
    return true;  // as much as the agent itself
  }
  struct stat theirs = {};
  // Of the socket, which may be older than the namespace that its owner is in now.
  const auto network = NetworkOf(socket_fd, 0);
  if (!network || stat(fmt::format("/proc/{}/ns/user", tid).c_str(), &theirs) != 0) {
    return false;
  }
  UniqueFd owner(ioctl(network->get(), NS_GET_USERNS));
  while (owner) {
    struct stat at = {};
    if (fstat(owner.get(), &at) == 0 && SameFile(at, theirs)) {
      return true;
    }
    owner.Reset(ioctl(owner.get(), NS_GET_PARENT));
  }
  return false;
}

}  // namespace oakum::agent
