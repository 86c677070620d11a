#include "oci/multiplexer.h"

#include <algorithm>
#include <array>

namespace oakum::oci {

namespace {

// linux/net.h, SYS_SOCKET to SYS_SENDMMSG.
constexpr std::array kSocketCalls = std::to_array<std::string_view>(
    {"socket",     "bind",    "connect", "listen",  "accept",   "getsockname", "getpeername",
     "socketpair", "send",    "recv",    "sendto",  "recvfrom", "shutdown",    "setsockopt",
     "getsockopt", "sendmsg", "recvmsg", "accept4", "recvmmsg", "sendmmsg"});

// linux/ipc.h, SEMOP to SHMCTL.
constexpr std::array kIpcCalls =
    std::to_array<std::string_view>({"semop", "semget", "semctl", "semtimedop", "msgsnd", "msgrcv",
                                     "msgget", "msgctl", "shmat", "shmdt", "shmget", "shmctl"});

constexpr std::array kMultiplexers = {Multiplexer{"socketcall", kSocketCalls},
                                      Multiplexer{"ipc", kIpcCalls}};

}  // namespace

std::span<const Multiplexer> Multiplexers() { return kMultiplexers; }

const Multiplexer* FindMultiplexer(std::string_view name) {
  const auto* found = std::ranges::find(kMultiplexers, name, &Multiplexer::name);
  return found == kMultiplexers.end() ? nullptr : found;
}

const Multiplexer* MultiplexerOf(std::string_view call) {
  const auto* found = std::ranges::find_if(kMultiplexers, [&](const Multiplexer& multiplexer) {
    return std::ranges::find(multiplexer.calls, call) != multiplexer.calls.end();
  });
  return found == kMultiplexers.end() ? nullptr : found;
}

}  // namespace oakum::oci
