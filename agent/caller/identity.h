// Privileges of the calling thread, put on and taken off around what is done for a container.
#ifndef OAKUM_AGENT_CALLER_IDENTITY_H_
#define OAKUM_AGENT_CALLER_IDENTITY_H_

#include <cstdint>

#include "agent/caller/task.h"

namespace oakum::agent {

// Effective capabilities of this thread only (capset(2) is per thread; glibc has no wrapper that
// would change the others). Bits are 1 << CAP_*.
[[nodiscard]] constexpr uint64_t CapabilityBit(int capability) { return uint64_t{1} << capability; }

// Leaves exactly those of `wanted` that are permitted in the effective set. What is performed for a
// container must not profit from the agent's privileges, so threads that perform keep
// CAP_SYS_PTRACE only and raise others for single steps.
void SetEffectiveCapabilities(uint64_t wanted);

// Whether all of `wanted` could be made effective.
[[nodiscard]] bool HasPermittedCapabilities(uint64_t wanted);

// Capabilities that are effective as long as the object lives; afterwards `after` are again.
class ScopedCapabilities {
 public:
  ScopedCapabilities(uint64_t during, uint64_t after);
  ~ScopedCapabilities();
  ScopedCapabilities(const ScopedCapabilities&) = delete;
  ScopedCapabilities& operator=(const ScopedCapabilities&) = delete;

 private:
  uint64_t after_;
};

// The thread acts with the file system and peer credentials of a container's thread (effective ids
// and supplementary groups; real and saved ids stay, so that it can come back) and with those of
// its capabilities in `keep` that the container's thread has in the agent's own user namespace.
// "Root" is uid 0 of the agent's own user namespace, in which setgroups(2) may be denied. An
// agent without CAP_SETUID keeps its own ids: then it only guards processes of its own user.
class ScopedIdentity {
 public:
  ScopedIdentity(const TaskStatus& status, bool same_user_namespace, uint64_t keep, uint64_t after);
  ~ScopedIdentity();
  ScopedIdentity(const ScopedIdentity&) = delete;
  ScopedIdentity& operator=(const ScopedIdentity&) = delete;
  // False when the ids could not be taken on: nothing may be performed then.
  [[nodiscard]] bool ok() const { return ok_; }

 private:
  uint64_t after_;
  bool changed_ = false;
  bool groups_changed_ = false;
  bool ok_ = true;
  uid_t own_euid_;
  gid_t own_egid_;
  std::vector<gid_t> own_groups_;
};

// What threads that perform calls keep.
inline constexpr uint64_t kPerformerCapabilities = uint64_t{1} << 19;  // CAP_SYS_PTRACE

// Whether thread `tid` lives in the agent's own user namespace.
[[nodiscard]] bool InOwnUserNamespace(pid_t tid);

// Whether thread `tid`, whose status this is, has CAP_NET_BIND_SERVICE over the network namespace
// of `socket_fd`: in the user namespace that owns it or in an ancestor of that
// (user_namespaces(7)). A caller in a user namespace of its own has it over the namespaces made
// there, and over no other that it holds a socket of. False where it cannot be told.
[[nodiscard]] bool MayBindPrivilegedPort(pid_t tid, const TaskStatus& status, int socket_fd);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_IDENTITY_H_
