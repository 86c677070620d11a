#include "policy/plan.h"

#include <linux/netlink.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <span>
#include <string_view>
#include <utility>

#include "policy/compiled.h"
#include "policy/plan_conditions.h"
#include "policy/plan_syscalls.h"

namespace oakum::policy {

namespace {

using oci::ArgCondition;
using oci::FilterAction;
using oci::FilterBranch;
using oci::SyscallPlan;

// Arguments that are ints in the kernel (socket(2), sendto(2)) are registers of 64 bits here, whose
// upper half the kernel ignores. A branch that allows compares the whole register, or masks all
// but low bits that mean the same whatever the others are, so that a register with something in its
// upper half is never allowed by mistake: it ends in a branch that notifies. No value or mask has
// more than 32 bits: on 32-bit architectures libseccomp compares the lower half only.

void AddBranch(SyscallPlan& plan, std::vector<ArgCondition> conditions, FilterAction action) {
  plan.branches.push_back({.conditions = std::move(conditions), .action = action});
}

// socket(2): argument 0 the family, 1 the type with flags, 2 the protocol.
SyscallPlan PlanSocket() {
  constexpr uint32_t kFamily = 0;
  constexpr uint32_t kType = 1;
  constexpr uint32_t kProtocol = 2;
  // The type is in the low four bits (SOCK_TYPE_MASK, linux/net.h); others are flags or EINVAL.
  constexpr uint64_t kTypeMask = 0xf;
  // Protocols that make TCP, UDP and ping sockets; the kernel refuses ICMP for IPv6 and the other
  // way round.
  constexpr std::array<uint64_t, 2> kStream = {0, IPPROTO_TCP};
  constexpr std::array<uint64_t, 4> kDatagram = {0, IPPROTO_ICMP, IPPROTO_UDP, IPPROTO_ICMPV6};

  SyscallPlan plan{.name = "socket", .branches = {}};
  AddBranch(plan, {Equal(kFamily, AF_UNIX)}, FilterAction::kAllow);
  AddBranch(plan, {Equal(kFamily, AF_NETLINK), Equal(kProtocol, NETLINK_ROUTE)},
            FilterAction::kAllow);
  AddBranch(plan, {Equal(kFamily, AF_NETLINK), NotEqual(kProtocol, NETLINK_ROUTE)},
            FilterAction::kNotify);
  for (const uint64_t family : {AF_INET, AF_INET6}) {
    const ArgCondition internet = Equal(kFamily, family);
    const auto add_type = [&](uint64_t type, std::span<const uint64_t> protocols) {
      const ArgCondition is_type = Masked(kType, kTypeMask, type);
      for (const uint64_t protocol : protocols) {
        AddBranch(plan, {internet, is_type, Equal(kProtocol, protocol)}, FilterAction::kAllow);
      }
      for (const ArgCondition& other : NoneOf(kProtocol, protocols)) {
        AddBranch(plan, {internet, is_type, other}, FilterAction::kNotify);
      }
    };
    add_type(SOCK_STREAM, kStream);
    add_type(SOCK_DGRAM, kDatagram);
    // The fourteen other types: 0, 3, 4 to 7, 8 to 15.
    for (const auto& [mask, value] :
         {std::pair<uint64_t, uint64_t>{0xf, 0}, {0xf, 3}, {0xc, 4}, {0x8, 8}}) {
      AddBranch(plan, {internet, Masked(kType, mask, value)}, FilterAction::kNotify);
    }
  }
  constexpr std::array<uint64_t, 4> kFamilies = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
  for (const ArgCondition& other : NoneOf(kFamily, kFamilies)) {
    AddBranch(plan, {other}, FilterAction::kNotify);
  }
  return plan;
}

// MSG_FASTOPEN connects (tcp(7), TCP_FASTOPEN): nothing may connect but connect(2).
FilterBranch FastOpenBranch(uint32_t flags, bool audit) {
  return {.conditions = {Masked(flags, MSG_FASTOPEN, MSG_FASTOPEN)},
          .action = audit ? FilterAction::kNotify : FilterAction::kErrno,
          .errno_value = audit ? 0 : EOPNOTSUPP};
}

// sendto(2): argument 3 the flags, 4 the destination, NULL on a connected socket.
SyscallPlan PlanSendto(bool audit) {
  constexpr uint32_t kFlags = 3;
  constexpr uint32_t kDestination = 4;
  const ArgCondition no_fast_open = Masked(kFlags, MSG_FASTOPEN, 0);
  SyscallPlan plan{.name = "sendto", .branches = {FastOpenBranch(kFlags, audit)}};
  AddBranch(plan, {no_fast_open, Equal(kDestination, 0)}, FilterAction::kAllow);
  AddBranch(plan, {no_fast_open, NotEqual(kDestination, 0)}, FilterAction::kNotify);
  return plan;
}

// sendmsg(2), sendmmsg(2): the destination is in memory, so each call is a notification.
SyscallPlan PlanSendMessage(std::string_view name, uint32_t flags, bool audit) {
  if (audit) {
    return Always(name, FilterAction::kNotify);
  }
  SyscallPlan plan{.name = std::string(name), .branches = {FastOpenBranch(flags, audit)}};
  AddBranch(plan, {Masked(flags, MSG_FASTOPEN, 0)}, FilterAction::kNotify);
  return plan;
}

// recvfrom(2): argument 4, where the address of the sender goes; NULL for recv(2) of most
// libraries.
SyscallPlan PlanRecvfrom() {
  constexpr uint32_t kSource = 4;
  SyscallPlan plan{.name = "recvfrom", .branches = {}};
  AddBranch(plan, {Equal(kSource, 0)}, FilterAction::kAllow);
  AddBranch(plan, {NotEqual(kSource, 0)}, FilterAction::kNotify);
  return plan;
}

// setsockopt(2): argument 1 the level, 2 the name. Options of IP and IPv6 can put a route or a
// multicast join on the wire (ip(7) IP_OPTIONS, ipv6(7) IPV6_RTHDR), those that bind to a network
// interface send to 127.0.0.1 through it; level and name are registers, so the agent decides on
// what cannot change. Levels that cannot, and the socket options that programs set all the time
// (those before SO_BINDTODEVICE), stay in the kernel.
SyscallPlan PlanSetsockopt() {
  constexpr uint32_t kLevel = 1;
  constexpr uint32_t kName = 2;
  constexpr std::array<uint64_t, 4> kHarmless = {SOL_SOCKET, IPPROTO_TCP, IPPROTO_UDP, SOL_NETLINK};
  SyscallPlan plan{.name = "setsockopt", .branches = {}};
  for (const uint64_t level : kHarmless) {
    if (level != SOL_SOCKET) {
      AddBranch(plan, {Equal(kLevel, level)}, FilterAction::kAllow);
    }
  }
  const ArgCondition socket = Equal(kLevel, SOL_SOCKET);
  static_assert(SO_BINDTODEVICE < SO_BINDTOIFINDEX);
  AddBranch(plan, {socket, Less(kName, SO_BINDTODEVICE)}, FilterAction::kAllow);
  AddBranch(plan, {socket, Greater(kName, SO_BINDTODEVICE - 1)}, FilterAction::kNotify);
  for (const ArgCondition& other : NoneOf(kLevel, kHarmless)) {
    AddBranch(plan, {other}, FilterAction::kNotify);
  }
  return plan;
}

// request_key(2): argument 2, the call-out text. With one, a key that is missing is looked for by a
// program of the host's, outside of every container (request-key(8)); the key type "dns_resolver"
// asks a name server for the name that was given.
SyscallPlan PlanRequestKey() {
  constexpr uint32_t kCallout = 2;
  SyscallPlan plan{.name = "request_key", .branches = {}};
  AddBranch(plan, {Equal(kCallout, 0)}, FilterAction::kAllow);
  plan.branches.push_back({.conditions = {NotEqual(kCallout, 0)},
                           .action = FilterAction::kErrno,
                           .errno_value = ENOSYS});
  return plan;
}

}  // namespace

oci::SeccompPlan Plan(const Policy& policy) {
  const bool audit = policy.mode() == Mode::kAudit;
  oci::SeccompPlan plan;
  plan.syscalls.push_back(PlanSocket());
  plan.syscalls.push_back(Always("connect", FilterAction::kNotify));
  plan.syscalls.push_back(PlanSendto(audit));
  plan.syscalls.push_back(PlanSendMessage("sendmsg", 2, audit));
  plan.syscalls.push_back(PlanSendMessage("sendmmsg", 3, audit));
  plan.syscalls.push_back(PlanSetsockopt());
  // The multiplexer of 32-bit x86 (socketcall(2)): its arguments are in memory.
  plan.syscalls.push_back(Always("socketcall", FilterAction::kNotify));
  // Who a carried socket talks to, only the agent knows. Where a message's sender goes is in
  // memory.
  if (policy.carries()) {
    plan.syscalls.push_back(Always("getpeername", FilterAction::kNotify));
  }
  if (policy.carries_datagrams()) {
    plan.syscalls.push_back(PlanRecvfrom());
    for (const std::string_view name : {"recvmsg", "recvmmsg", "recvmmsg_time64"}) {
      plan.syscalls.push_back(Always(name, FilterAction::kNotify));
    }
  }
  if (policy.guards_incoming()) {
    plan.syscalls.push_back(Always("bind", FilterAction::kNotify));
    plan.syscalls.push_back(Always("listen", FilterAction::kNotify));
  }
  if (policy.guards_peers()) {
    plan.syscalls.push_back(Always("accept", FilterAction::kNotify));
    plan.syscalls.push_back(Always("accept4", FilterAction::kNotify));
  }
  if (!audit) {
    plan.syscalls.push_back(PlanRequestKey());
  }
  // io_uring connects and sends without system calls: audit can only say that a ring was made.
  if (audit) {
    plan.syscalls.push_back(Always("io_uring_setup", FilterAction::kNotify));
  } else {
    for (const std::string_view name : {"io_uring_setup", "io_uring_enter", "io_uring_register"}) {
      plan.syscalls.push_back(Always(name, FilterAction::kErrno, ENOSYS));
    }
    ApplySyscallRules(policy.compiled().source.syscalls, plan);
  }
  return plan;
}

}  // namespace oakum::policy
