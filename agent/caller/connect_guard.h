// Keeps the processes of some cgroups from connecting internet sockets themselves: cgroup-BPF.
#ifndef OAKUM_AGENT_CALLER_CONNECT_GUARD_H_
#define OAKUM_AGENT_CALLER_CONNECT_GUARD_H_

#include <cstdint>
#include <map>
#include <mutex>
#include <optional>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// How deep below the root of the hierarchy a cgroup may be.
inline constexpr uint32_t kMaxGuardedLevel = 16;

// The number that bpf-helpers(7) know a cgroup (v2) by. Errors: those of name_to_handle_at(2).
[[nodiscard]] Expected<uint64_t> CgroupId(int cgroup_fd);

// Two programs on the root of the cgroup (v2) hierarchy, for connect(2) on IPv4 and IPv6 sockets.
// Which programs run is a matter of the cgroup that a socket was made in, so that those of the root
// run for every socket, wherever it comes from. Whoever calls from within a guarded cgroup gets
// EPERM; all others, the agent among them, are let through. The programs are held by links (bpf(2),
// BPF_LINK_CREATE): they go with this object or with the process, and leave others as they are.
class ConnectGuard {
 public:
  // Errors: EPERM without CAP_BPF and CAP_NET_ADMIN, EINVAL where the kernel has none of it, those
  // of bpf(2).
  [[nodiscard]] static Expected<ConnectGuard> Attach(int root_cgroup_fd);

  // Errors: E2BIG when there are too many.
  [[nodiscard]] Expected<void> Add(uint64_t cgroup_id);
  void Remove(uint64_t cgroup_id);

 private:
  ConnectGuard(UniqueFd cgroups, UniqueFd inet4, UniqueFd inet6)
      : cgroups_(std::move(cgroups)), inet4_(std::move(inet4)), inet6_(std::move(inet6)) {}

  UniqueFd cgroups_;  // a map: the guarded ones, by id
  UniqueFd inet4_;
  UniqueFd inet6_;
};

// The guarded cgroups of an agent. The programs are there only while there are some. Thread-safe.
class GuardedCgroups {
 public:
  // One more reason to guard it. Errors: as above. The caller has the capabilities.
  [[nodiscard]] Expected<void> Add(int root_cgroup_fd, uint64_t cgroup_id);
  // One less.
  void Remove(uint64_t cgroup_id);

 private:
  std::mutex mutex_;
  std::optional<ConnectGuard> guard_;
  std::map<uint64_t, int> reasons_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_CONNECT_GUARD_H_
