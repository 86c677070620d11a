// Keeps the processes of one cgroup from connecting internet sockets themselves: cgroup-BPF.
#ifndef OAKUM_AGENT_CONNECT_GUARD_H_
#define OAKUM_AGENT_CONNECT_GUARD_H_

#include <cstdint>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Two programs on a cgroup (v2), for connect(2) on IPv4 and IPv6 sockets that were made in it or
// below: who is there himself gets EPERM, whoever connects such a socket from elsewhere (the agent)
// does not. They are held by links (bpf(2), BPF_LINK_CREATE), so they go with this object or with
// the process, and leave other programs on the cgroup as they are.
class ConnectGuard {
 public:
  // `cgroup_fd`: the cgroup's directory; `level`: how deep it is below the root of the hierarchy,
  // 1 or more. Errors: EPERM without CAP_BPF and CAP_NET_ADMIN, EINVAL where the kernel has none of
  // it, those of bpf(2).
  [[nodiscard]] static Expected<ConnectGuard> Attach(int cgroup_fd, uint32_t level);

 private:
  ConnectGuard(UniqueFd inet4, UniqueFd inet6)
      : inet4_(std::move(inet4)), inet6_(std::move(inet6)) {}

  UniqueFd inet4_;
  UniqueFd inet6_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CONNECT_GUARD_H_
