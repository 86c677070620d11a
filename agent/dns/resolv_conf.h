// resolv.conf(5) as data.
#ifndef OAKUM_AGENT_DNS_RESOLV_CONF_H_
#define OAKUM_AGENT_DNS_RESOLV_CONF_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "policy/address.h"

namespace oakum::agent {

struct ResolvConf {
  std::vector<policy::IpAddress> nameservers;
  std::vector<std::string> search;  // lower case, without a final dot; the last such line counts
  int ndots = 1;                    // at most 15, as glibc has it
};

// Beyond these the rest is passed over; glibc itself uses three servers and six domains of old.
inline constexpr size_t kMaxResolvConf = size_t{64} << 10;
inline constexpr size_t kMaxNameservers = 16;
inline constexpr size_t kMaxSearch = 32;

// Pure; lines that mean nothing are passed over as every resolver does. A server's scope ("%eth0")
// is left out. Without a server it is the one at 127.0.0.1 that is asked (resolv.conf(5)).
[[nodiscard]] ResolvConf ParseResolvConf(std::string_view text);

// The servers of a file whose answers may bind names to addresses: those on which no process of the
// container can listen itself. Loopback's are left out, but for Docker's own resolver at
// 127.0.0.11: its rules of iptables(8) lead the port to a socket of the daemon's.
[[nodiscard]] std::vector<policy::IpAddress> TrustedServers(const ResolvConf& conf);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_DNS_RESOLV_CONF_H_
