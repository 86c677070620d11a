// What the agent gives up at its start.
#ifndef OAKUM_AGENT_SERVER_PRIVILEGES_H_
#define OAKUM_AGENT_SERVER_PRIVILEGES_H_

#include <cstdint>
#include <span>

#include "base/error.h"

namespace oakum::agent {

// Which capabilities stay: all that any feature needs, since a policy that is loaded later may use
// another one, and what has been given up does not come back (docs/operations.md and the systemd
// unit have the same list); or none.
enum class Keeps : uint8_t { kNeeded, kNothing };

// For the whole process, once, before there are threads:
// - of its capabilities keeps those, and inheritable and ambient ones not at all. The bounding set
//   is cut down as well where it may be (CAP_SETPCAP).
// - No program that it could start has more rights (PR_SET_NO_NEW_PRIVS, prctl(2)).
// - Its memory, which has passages of containers' in it, goes into no core dump (PR_SET_DUMPABLE,
//   RLIMIT_CORE) and cannot be read by other processes of its user.
// - A seccomp filter refuses (EPERM) system calls that no feature makes and that somebody who had
//   taken the process over would want: programs, mounts, modules, devices, keys, clocks, tracing.
// Errors: those of capset(2), prctl(2) and seccomp(2); what could be given up before is.
[[nodiscard]] Expected<void> GiveUpPrivileges(Keeps keeps = Keeps::kNeeded);

// Has the kernel refuse (EPERM) these system calls too, for a process that can do without; names
// that this libseccomp does not know are left out. Errors: seccomp(2)'s.
[[nodiscard]] Expected<void> RefuseSystemCalls(std::span<const char* const> names);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SERVER_PRIVILEGES_H_
