// Datagrams as a SOCKS5 proxy relays them (RFC 1928 section 7). Pure: bytes in, values out.
#ifndef OAKUM_AGENT_UDP_SOCKS_DATAGRAM_H_
#define OAKUM_AGENT_UDP_SOCKS_DATAGRAM_H_

#include <optional>
#include <string>
#include <string_view>

#include "agent/proxy/dial.h"

namespace oakum::agent {

// With the header in front that says where it is to go: ATYP 3 for a name, of which the first 255
// bytes fit.
[[nodiscard]] std::string WrapDatagram(const ProxyTarget& destination, std::string_view data);

struct RelayedDatagram {
  ProxyTarget source;     // a name where the proxy gives one
  std::string_view data;  // points into what was read
};
// Nothing for what is malformed, and for fragments, which RFC 1928 has an implementation drop that
// does not put them together.
[[nodiscard]] std::optional<RelayedDatagram> UnwrapDatagram(std::string_view bytes);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_UDP_SOCKS_DATAGRAM_H_
