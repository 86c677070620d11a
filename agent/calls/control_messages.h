// Ancillary data of a message, made safe to be sent from the agent: cmsg(3), unix(7), ip(7),
// ipv6(7).
#ifndef OAKUM_AGENT_CALLS_CONTROL_MESSAGES_H_
#define OAKUM_AGENT_CALLS_CONTROL_MESSAGES_H_

#include <vector>

#include "agent/calls/calls.h"

namespace oakum::agent {

// What sending another process's credentials takes (scm_check_creds(), net/core/scm.c).
inline constexpr uint64_t kCredentialCapabilities = uint64_t{1} << 21 |  // CAP_SYS_ADMIN
                                                    uint64_t{1} << 7 |   // CAP_SETUID
                                                    uint64_t{1} << 6;    // CAP_SETGID

struct ControlMessages {
  std::vector<char> bytes;       // what sendmsg(2) is given
  std::vector<UniqueFd> rights;  // the container's descriptors that `bytes` names, duplicated
  bool routes = false;  // source routes and extension headers (IP_RETOPTS, IPV6_RTHDR and its kin)
  bool names_interface = false;  // another than loopback (IP_PKTINFO, IPV6_PKTINFO)
};

// Rewrites the records that mean something else in the agent's hands: descriptor numbers
// (SCM_RIGHTS) become duplicates of the container's; process and user ids (SCM_CREDENTIALS) are
// checked as the kernel would check them for thread `tid` and translated into the agent's
// namespaces. On a unix socket credentials are added when there are none, so that a receiver with
// SO_PASSCRED sees the container's process. An agent without the privilege to name another process
// sends none: it serves its own user, and the receiver sees that user. Other records are kept as
// they are, those for unix sockets included where the kernel takes no notice of them
// (__sock_cmsg_send()). Returns 0 or an errno value: EINVAL (malformed), EBADF, EPERM,
// ETOOMANYREFS.
[[nodiscard]] int TranslateControl(const CallContext& context, pid_t tid, int domain,
                                   const std::vector<char>& original, ControlMessages& out);

// Keeps `original`, the records of a message on an internet socket, as they are, and notes what
// they name.
void ScanInternet(const std::vector<char>& original, ControlMessages& out);

// Adds what keeps a message of an IPv6 socket on the loopback interface whatever that socket is
// bound to: EINVAL where they disagree (ip6_datagram_send_ctl(), net/ipv6/datagram.c).
void PinToLoopback(ControlMessages& control);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLS_CONTROL_MESSAGES_H_
