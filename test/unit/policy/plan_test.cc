// What a policy asks of the kernel filter: branches that never disagree and are exhaustive
// together, and nothing allowed whose low halves mean something else.
#include "policy/plan.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <random>
#include <set>
#include <tuple>

#include "base/unique_fd.h"
#include "plan_testing.h"
#include "policy_testing.h"

namespace oakum::policy {
namespace {

using oci::ArgCondition;
using oci::Compare;
using oci::FilterAction;
using oci::FilterBranch;
using testing::BranchesOf;
using testing::FindSyscall;
using testing::MustParse;
using testing::OnePolicy;
using testing::Registers;

const std::vector<std::string>& Policies() {
  static const std::vector<std::string> policies = [] {
    std::vector<std::string> all;
    for (const char* mode : {"audit", "enforce", "kill"}) {
      for (const char* members :
           {"", R"("outgoing": {"default": "allow"})", R"("incoming": {"default": "deny"})",
            R"("incoming": {"default": "allow", "deny": ["*:80"]})",
            R"("incoming": {"default": "allow", "deny": ["*:80 from 10.0.0.1"]})",
            R"("unix": {"default": "deny"}, "dns": "allow")",
            R"("proxy": "tor", "outgoing": {"default": "redirect"})",
            R"("proxy": "tor", "handshake": {"require": "socks5"})"}) {
        all.push_back(OnePolicy(members, mode));
      }
    }
    return all;
  }();
  return policies;
}

// Small numbers, powers of two and their neighbours, flags of sockets, halves out of range.
uint64_t RandomRegister(std::mt19937_64& random) {
  static constexpr uint64_t kFlags[] = {SOCK_NONBLOCK, SOCK_CLOEXEC, MSG_FASTOPEN, MSG_DONTWAIT};
  uint64_t value = 0;
  switch (random() % 4) {
    case 0:
      value = random() % 70;
      break;
    case 1:
      value = (uint64_t{1} << (random() % 64)) + random() % 3 - 1;
      break;
    case 2:
      value = random();
      break;
    case 3:
      value = (random() % 70) | (random() % 2 << 32) | (random() % 2 << 63);
      break;
  }
  for (const uint64_t flag : kFlags) {
    if (random() % 4 == 0) {
      value |= flag;
    }
  }
  return value;
}

TEST(PlanTest, BranchesAgreeAndAreExhaustive) {
  std::mt19937_64 random(20240607);
  for (const std::string& text : Policies()) {
    const auto set = MustParse(text);
    for (const oci::SyscallPlan& syscall : Plan(*set->Find("p")).syscalls) {
      for (int i = 0; i < 5000; ++i) {
        Registers registers;
        for (uint64_t& value : registers) {
          value = RandomRegister(random);
        }
        const auto branches = BranchesOf(syscall, registers);
        const auto differs = [&](const FilterBranch* branch) {
          return branch->action != branches[0]->action ||
                 branch->errno_value != branches[0]->errno_value;
        };
        ASSERT_TRUE(!branches.empty() && std::ranges::none_of(branches, differs))
            << syscall.name << "(" << registers[0] << ", " << registers[1] << ", " << registers[2]
            << ", " << registers[3] << ", " << registers[4] << ") in " << text;
      }
    }
  }
}

TEST(PlanTest, BranchesAreWellFormed) {
  for (const std::string& text : Policies()) {
    const auto set = MustParse(text);
    std::map<std::string, int> names;
    for (const oci::SyscallPlan& syscall : Plan(*set->Find("p")).syscalls) {
      EXPECT_EQ(++names[syscall.name], 1) << syscall.name;
      EXPECT_LE(syscall.branches.size(), 72U) << syscall.name;
      for (const FilterBranch& branch : syscall.branches) {
        std::map<uint32_t, int> indexes;
        for (const ArgCondition& condition : branch.conditions) {
          EXPECT_LT(condition.index, 6U);
          EXPECT_EQ(++indexes[condition.index], 1) << syscall.name;
          if (condition.compare == Compare::kMaskedEqual) {
            EXPECT_EQ(condition.value_two & ~condition.value, 0U) << syscall.name;
          } else {
            EXPECT_EQ(condition.value_two, 0U);
          }
        }
        EXPECT_EQ(branch.action == FilterAction::kErrno, branch.errno_value != 0);
      }
    }
  }
}

// What the kernel makes of socket(2)'s registers: ints. True as well for some that are no sockets,
// as are all with other bits of a family than the lowest eight, or, for netlink, of a protocol than
// the lowest five.
bool IsKnownSocket(const Registers& registers) {
  const auto family = static_cast<int>(registers[0]) & 0xff;
  const auto type = static_cast<int>(registers[1]) & 0xf;
  const auto protocol = static_cast<int>(registers[2]);
  switch (family) {
    case AF_UNSPEC:
    case AF_UNIX:
      return true;
    case AF_NETLINK:
      return (protocol & 0x1f) == 0;
    case AF_INET:
    case AF_INET6:
      return (type == SOCK_STREAM || type == SOCK_DGRAM) && (protocol & 0x1c0) == 0;
    default:
      return false;
  }
}

// The filter looks at few bits; the running kernel says that nothing else is behind the others.
TEST(PlanTest, WhatSocketsAreAllowedWithoutAQuestion) {
  std::set<std::tuple<int, int, int>> made;
  for (const int family : {AF_UNSPEC, AF_INET, AF_INET6}) {
    for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
      for (int protocol = 0; protocol < 1024; ++protocol) {
        if ((protocol & 0x1c0) != 0 || (protocol >= 512 && protocol % 64 > 2)) {
          continue;
        }
        const UniqueFd fd(socket(family, type, protocol));
        int real = 0;
        socklen_t length = sizeof real;
        if (fd && getsockopt(fd.get(), SOL_SOCKET, SO_PROTOCOL, &real, &length) == 0) {
          made.emplace(family, type, real);
        }
      }
    }
  }
  for (const auto& [family, type, protocol] : made) {
    EXPECT_TRUE((type == SOCK_STREAM && protocol == IPPROTO_TCP) ||
                (type == SOCK_DGRAM && (protocol == IPPROTO_UDP || protocol == IPPROTO_ICMP ||
                                        protocol == IPPROTO_ICMPV6)))
        << family << " " << type << " " << protocol;
  }
  EXPECT_TRUE(made.contains({AF_INET, SOCK_STREAM, IPPROTO_TCP}));
}

// The kernel itself refuses what has a bit that the filter does not look at.
TEST(PlanTest, NoSocketOrOptionIsBehindTheBitsThatAreNotLookedAt) {
  for (int bit = 8; bit < 32; ++bit) {
    const int high = static_cast<int>(1U << bit);
    for (const int family : {AF_UNSPEC, AF_UNIX, AF_INET, AF_INET6, AF_NETLINK}) {
      for (const int type : {SOCK_STREAM, SOCK_DGRAM}) {
        EXPECT_FALSE(UniqueFd(socket(family | high, type, 0))) << family << " " << bit;
      }
    }
  }
  for (int bit = 5; bit < 32; ++bit) {
    EXPECT_FALSE(UniqueFd(socket(AF_NETLINK, SOCK_RAW, static_cast<int>(1U << bit)))) << bit;
  }
  const UniqueFd tcp(socket(AF_INET6, SOCK_STREAM, 0));
  const UniqueFd udp(socket(AF_INET, SOCK_DGRAM, 0));
  const int one = 1;
  for (const int fd : {tcp.get(), udp.get()}) {
    ASSERT_EQ(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), 0);
    for (int bit = 8; bit < 32; ++bit) {
      const int high = static_cast<int>(1U << bit);
      EXPECT_NE(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR | high, &one, sizeof one), 0) << bit;
      for (const int level : {SOL_SOCKET, int{IPPROTO_TCP}, int{IPPROTO_UDP}}) {
        // As another level or none: not as this one.
        if (bit >= 9) {
          EXPECT_NE(setsockopt(fd, level | high, SO_REUSEADDR, &one, sizeof one), 0)
              << level << " " << bit;
        }
      }
    }
  }
}

TEST(PlanTest, SocketAllowsOnlyKnownFamilies) {
  const auto set = MustParse(OnePolicy(""));
  const oci::SeccompPlan plan = Plan(*set->Find("p"));
  const oci::SyscallPlan& socket = *FindSyscall(plan, "socket");
  // Every combination of small arguments: exactly the known ones are allowed.
  for (uint64_t family = 0; family < 256; family += family < 64 ? 1 : 13) {
    for (uint64_t type = 0; type < 16; ++type) {
      for (uint64_t protocol = 0; protocol < 264; ++protocol) {
        for (const uint64_t flags : {0, SOCK_CLOEXEC | SOCK_NONBLOCK}) {
          const Registers registers = {family, type | flags, protocol, 0, 0, 0};
          const auto branches = BranchesOf(socket, registers);
          ASSERT_FALSE(branches.empty());
          ASSERT_EQ(branches[0]->action == FilterAction::kAllow, IsKnownSocket(registers))
              << family << " " << type << " " << protocol;
        }
      }
    }
  }
  // Whatever is in the upper halves: what is allowed is known to be harmless by its low halves.
  std::mt19937_64 random(7);
  for (int i = 0; i < 200000; ++i) {
    const Registers registers = {
        RandomRegister(random), RandomRegister(random), RandomRegister(random), 0, 0, 0};
    const auto branches = BranchesOf(socket, registers);
    ASSERT_FALSE(branches.empty());
    if (branches[0]->action == FilterAction::kAllow) {
      ASSERT_TRUE(IsKnownSocket(registers))
          << registers[0] << " " << registers[1] << " " << registers[2];
    }
  }
}

FilterBranch ActionOf(const oci::SeccompPlan& plan, std::string_view name,
                      const Registers& registers) {
  const oci::SyscallPlan* syscall = FindSyscall(plan, name);
  if (syscall == nullptr) {
    return {.conditions = {}, .action = FilterAction::kAllow, .errno_value = -1};
  }
  return *BranchesOf(*syscall, registers).at(0);
}

TEST(PlanTest, SendsInEnforceAndAudit) {
  const auto enforce = MustParse(OnePolicy("", "enforce"));
  const auto audit = MustParse(OnePolicy("", "audit"));
  const oci::SeccompPlan strict = Plan(*enforce->Find("p"));
  const oci::SeccompPlan lenient = Plan(*audit->Find("p"));
  const uint64_t fast_open = uint64_t{MSG_FASTOPEN} | (uint64_t{1} << 40);
  for (const auto& [name, registers] :
       std::map<std::string, Registers>{{"sendto", {3, 0x1000, 1, fast_open, 0, 0}},
                                        {"sendmsg", {3, 0x1000, fast_open, 0, 0, 0}},
                                        {"sendmmsg", {3, 0x1000, 1, fast_open, 0, 0}}}) {
    EXPECT_EQ(ActionOf(strict, name, registers).action, FilterAction::kErrno) << name;
    EXPECT_EQ(ActionOf(strict, name, registers).errno_value, EOPNOTSUPP) << name;
    EXPECT_EQ(ActionOf(lenient, name, registers).action, FilterAction::kNotify) << name;
  }
  for (const oci::SeccompPlan* plan : {&strict, &lenient}) {
    EXPECT_EQ(ActionOf(*plan, "sendto", {3, 1, 1, 0x40, 0, 0}).action, FilterAction::kAllow);
    EXPECT_EQ(ActionOf(*plan, "sendto", {3, 1, 1, 0x40, 0x1000, 16}).action, FilterAction::kNotify);
    EXPECT_EQ(ActionOf(*plan, "sendto", {3, 1, 1, 0, uint64_t{1} << 32, 16}).action,
              FilterAction::kNotify);
    EXPECT_EQ(ActionOf(*plan, "sendmsg", {3, 1, 0, 0, 0, 0}).action, FilterAction::kNotify);
    EXPECT_EQ(ActionOf(*plan, "sendmmsg", {3, 1, 2, 0, 0, 0}).action, FilterAction::kNotify);
    EXPECT_EQ(ActionOf(*plan, "connect", {3, 1, 16, 0, 0, 0}).action, FilterAction::kNotify);
    EXPECT_EQ(ActionOf(*plan, "socketcall", {3, 1, 0, 0, 0, 0}).action, FilterAction::kNotify);
  }
}

TEST(PlanTest, OptionsThatBindToAnInterfaceAreDecided) {
  const auto set = MustParse(OnePolicy(""));
  const oci::SeccompPlan plan = Plan(*set->Find("p"));
  const auto action = [&](uint64_t level, uint64_t name) {
    return ActionOf(plan, "setsockopt", {3, level, name, 0x1000, 4, 0}).action;
  };
  constexpr uint64_t kUpper = uint64_t{1} << 32;
  for (uint64_t name = 0; name < 256; ++name) {
    // Those that are not asked about are the oldest, which every program sets; registers are ints.
    const FilterAction expected =
        name < SO_BINDTODEVICE ? FilterAction::kAllow : FilterAction::kNotify;
    EXPECT_EQ(action(SOL_SOCKET, name), expected) << name;
    EXPECT_EQ(action(SOL_SOCKET, name | kUpper), expected) << name;
    EXPECT_EQ(action(SOL_SOCKET | kUpper, name), expected) << name;
    EXPECT_EQ(action(6, name), FilterAction::kAllow) << name;  // TCP
    EXPECT_EQ(action(0, name), FilterAction::kNotify) << name;
  }
}

// A call-out is made by a program of the host's.
TEST(PlanTest, RequestKeyMakesNoCallOut) {
  const auto set = MustParse(OnePolicy(""));
  const oci::SeccompPlan plan = Plan(*set->Find("p"));
  EXPECT_EQ(ActionOf(plan, "request_key", {1, 2, 0, 4, 0, 0}).action, FilterAction::kAllow);
  const FilterBranch call_out = ActionOf(plan, "request_key", {1, 2, 3, 4, 0, 0});
  EXPECT_EQ(call_out.action, FilterAction::kErrno);
  EXPECT_EQ(call_out.errno_value, ENOSYS);
  const auto audit = MustParse(OnePolicy("", "audit"));
  EXPECT_EQ(FindSyscall(Plan(*audit->Find("p")), "request_key"), nullptr);
}

TEST(PlanTest, IoUringIsRefused) {
  for (const char* mode : {"enforce", "kill"}) {
    const auto set = MustParse(OnePolicy("", mode));
    for (const char* name : {"io_uring_setup", "io_uring_enter", "io_uring_register"}) {
      const FilterBranch branch = ActionOf(Plan(*set->Find("p")), name, {});
      EXPECT_EQ(branch.action, FilterAction::kErrno) << mode << name;
      EXPECT_EQ(branch.errno_value, ENOSYS) << mode << name;
    }
  }
  const auto audit = MustParse(OnePolicy("", "audit"));
  const oci::SeccompPlan plan = Plan(*audit->Find("p"));
  EXPECT_EQ(ActionOf(plan, "io_uring_setup", {}).action, FilterAction::kNotify);
  EXPECT_EQ(FindSyscall(plan, "io_uring_enter"), nullptr);
}

TEST(PlanTest, IncomingOnlyWhereItIsGuarded) {
  const auto planned = [](std::string_view members, std::string_view name) {
    const auto set = MustParse(OnePolicy(members));
    return FindSyscall(Plan(*set->Find("p")), name) != nullptr;
  };
  for (const char* name : {"bind", "listen"}) {
    EXPECT_FALSE(planned("", name));
    EXPECT_TRUE(planned(R"("incoming": {"default": "allow", "deny": ["*:80"]})", name));
  }
  for (const char* name : {"accept", "accept4"}) {
    EXPECT_FALSE(planned("", name));
    EXPECT_FALSE(planned(R"("incoming": {"default": "allow", "deny": ["*:80"]})", name));
    EXPECT_TRUE(planned(R"("incoming": {"default": "deny"})", name));
    EXPECT_TRUE(planned(R"("incoming": {"default": "allow", "deny": ["* from 10.0.0.1"]})", name));
  }
  const auto set = MustParse(OnePolicy(""));
  EXPECT_EQ(FindSyscall(Plan(*set->Find("p")), "socketpair"), nullptr);
}

}  // namespace
}  // namespace oakum::policy
