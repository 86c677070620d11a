// Names of DNS as bytes and as text (RFC 1035 section 3.1), and the names of addresses.
#ifndef OAKUM_AGENT_DNS_HOST_NAME_H_
#define OAKUM_AGENT_DNS_HOST_NAME_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "policy/address.h"

namespace oakum::agent::dns {

inline constexpr size_t kMaxWireName = 255;
inline constexpr size_t kMaxLabel = 63;

// "www.example.com" of an uncompressed lower-case name; nothing for the root and for a name with
// anything but letters, digits, "-" and "_" in a label: no text could tell a dot inside a label
// from one between two.
[[nodiscard]] std::optional<std::string> HostName(std::string_view wire_name);
// Whether text is what HostName returns for some name.
[[nodiscard]] bool IsHostName(std::string_view text);
// The reverse; nothing for what is none. Upper-case letters stay.
[[nodiscard]] std::optional<std::string> WireName(std::string_view host_name);

// The address that a name below in-addr.arpa (RFC 1035 section 3.5) or ip6.arpa (RFC 3596 section
// 2.5) is about: only a whole one.
[[nodiscard]] std::optional<policy::IpAddress> ReverseAddress(std::string_view name);
[[nodiscard]] std::string ReverseName(const policy::IpAddress& ip);

}  // namespace oakum::agent::dns

#endif  // OAKUM_AGENT_DNS_HOST_NAME_H_
