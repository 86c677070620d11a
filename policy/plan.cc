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
// upper half the kernel ignores. A branch that allows compares the whole register, or bits of the
// lower half that mean the same whatever the others are. No value or mask has more than 32 bits: on
// 32-bit architectures libseccomp compares the lower half only.

void AddBranch(SyscallPlan& plan, std::vector<ArgCondition> conditions, FilterAction action) {
  plan.branches.push_back({.conditions = std::move(conditions), .action = action});
}

// The runtimes have libseccomp build the filter for every container. For each comparison it walks
// from the end of the filter back to the comparison's system call (_gen_bpf_build_bpf in its
// gen_bpf.c), past those of every architecture behind: some hundred microseconds for the native
// one, which is the first. So a plan has few branches with few conditions. What is notified costs
// nothing for itself where it is what no other branch takes (oci::RestRules). Branches that notify
// may overlap.
using Mask = std::pair<uint64_t, uint64_t>;  // mask and value

void NotifyMasked(SyscallPlan& plan, const std::vector<ArgCondition>& conditions, uint32_t index,
                  std::span<const Mask> masks) {
  for (const auto& [mask, value] : masks) {
    std::vector<ArgCondition> all = conditions;
    all.push_back(Masked(index, mask, value));
    AddBranch(plan, std::move(all), FilterAction::kNotify);
  }
}

// socket(2): argument 0 the family, 1 the type with flags, 2 the protocol. What has other bits of
// a family than the lowest eight, or of a protocol than those below 512 (for netlink(7) the lowest
// five), makes no socket: the kernel refuses it (NPROTO in linux/net.h, IPPROTO_MAX in linux/in.h,
// MAX_LINKS in linux/netlink.h).
SyscallPlan PlanSocket() {
  constexpr uint32_t kFamily = 0;
  constexpr uint32_t kType = 1;
  constexpr uint32_t kProtocol = 2;
  constexpr uint64_t kFamilyMask = 0xff;
  // The type is in the low four bits (SOCK_TYPE_MASK, linux/net.h); others are flags or EINVAL.
  constexpr uint64_t kTypeMask = 0xf;
  // Below 64 the kernel has TCP and nothing else for streams, UDP and ping for datagrams
  // (inetsw_array in net/ipv4/af_inet.c); MPTCP, SCTP, L2TP and UDP-Lite are above.
  constexpr uint64_t kBeyondPlain = 0x1c0;
  constexpr std::array<Mask, 3> kOtherProtocols = {{{0x40, 0x40}, {0x80, 0x80}, {0x100, 0x100}}};
  constexpr uint64_t kNetlinkMask = 0x1f;
  constexpr std::array<Mask, 5> kOtherNetlink = {{{1, 1}, {2, 2}, {4, 4}, {8, 8}, {16, 16}}};
  static_assert(NETLINK_ROUTE == 0 && MAX_LINKS == kNetlinkMask + 1);
  // All but SOCK_STREAM and SOCK_DGRAM.
  constexpr std::array<Mask, 4> kOtherTypes = {{{0x3, 0}, {0x3, 0x3}, {0x4, 0x4}, {0x8, 0x8}}};
  // Of 0 to 255 all but AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK.
  constexpr std::array<Mask, 8> kOtherFamilies = {{{0x4, 0x4},
                                                   {0x3, 0x3},
                                                   {0xa, 0x8},
                                                   {0x12, 0x12},
                                                   {0x11, 0x11},
                                                   {0x20, 0x20},
                                                   {0x40, 0x40},
                                                   {0x80, 0x80}}};
  static_assert(AF_UNSPEC == 0 && AF_UNIX == 1 && AF_INET6 == (AF_INET | 8));
  const ArgCondition either = Masked(kFamily, kFamilyMask & ~uint64_t{8}, AF_INET);
  const ArgCondition netlink = Masked(kFamily, kFamilyMask, AF_NETLINK);

  SyscallPlan plan{.name = "socket", .branches = {}};
  // There are no sockets of AF_UNSPEC.
  AddBranch(plan, {Masked(kFamily, kFamilyMask & ~uint64_t{1}, 0)}, FilterAction::kAllow);
  AddBranch(plan, {netlink, Masked(kProtocol, kNetlinkMask, NETLINK_ROUTE)}, FilterAction::kAllow);
  NotifyMasked(plan, {netlink}, kProtocol, kOtherNetlink);
  for (const uint64_t type : {SOCK_STREAM, SOCK_DGRAM}) {
    AddBranch(plan, {either, Masked(kType, kTypeMask, type), Masked(kProtocol, kBeyondPlain, 0)},
              FilterAction::kAllow);
  }
  NotifyMasked(plan, {either}, kType, kOtherTypes);
  NotifyMasked(plan, {either}, kProtocol, kOtherProtocols);
  NotifyMasked(plan, {}, kFamily, kOtherFamilies);
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
// (those before SO_BINDTODEVICE), stay in the kernel. It compares both as a whole, and knows no
// level from 512 up and no name of SOL_SOCKET from 256 up (ENOPROTOOPT).
SyscallPlan PlanSetsockopt() {
  constexpr uint32_t kLevel = 1;
  constexpr uint32_t kName = 2;
  constexpr uint64_t kLevelMask = 0x1ff;
  // Of 0 to 511 all but SOL_SOCKET (1), IPPROTO_TCP (6) and IPPROTO_UDP (17).
  constexpr std::array<Mask, 10> kOtherLevels = {{{0x8, 0x8},
                                                  {0x20, 0x20},
                                                  {0x40, 0x40},
                                                  {0x80, 0x80},
                                                  {0x100, 0x100},
                                                  {0x3, 0x0},
                                                  {0x3, 0x3},
                                                  {0x5, 0x0},
                                                  {0x5, 0x5},
                                                  {0x11, 0x10}}};
  // Of 0 to 255 those below 25, and the others.
  constexpr std::array<Mask, 3> kOldNames = {{{0xf0, 0x0}, {0xf8, 0x10}, {0xff, 0x18}}};
  constexpr std::array<Mask, 6> kOtherNames = {
      {{0x80, 0x80}, {0x40, 0x40}, {0x20, 0x20}, {0x19, 0x19}, {0x1a, 0x1a}, {0x1c, 0x1c}}};
  static_assert(SOL_SOCKET == 1 && SO_BINDTODEVICE == 25 && SO_BINDTODEVICE < SO_BINDTOIFINDEX);
  SyscallPlan plan{.name = "setsockopt", .branches = {}};
  AddBranch(plan, {Masked(kLevel, kLevelMask, IPPROTO_TCP)}, FilterAction::kAllow);
  AddBranch(plan, {Masked(kLevel, kLevelMask, IPPROTO_UDP)}, FilterAction::kAllow);
  const ArgCondition socket = Masked(kLevel, kLevelMask, SOL_SOCKET);
  for (const auto& [mask, value] : kOldNames) {
    AddBranch(plan, {socket, Masked(kName, mask, value)}, FilterAction::kAllow);
  }
  NotifyMasked(plan, {socket}, kName, kOtherNames);
  NotifyMasked(plan, {}, kLevel, kOtherLevels);
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
