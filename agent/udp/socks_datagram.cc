#include "agent/udp/socks_datagram.h"

#include <array>
#include <cstdint>
#include <cstring>

namespace oakum::agent {

namespace {

constexpr uint8_t kIpv4 = 1;
constexpr uint8_t kName = 3;
constexpr uint8_t kIpv6 = 4;
constexpr size_t kFixedPart = 4;  // RSV, FRAG, ATYP

uint8_t At(std::string_view bytes, size_t index) { return static_cast<uint8_t>(bytes[index]); }

}  // namespace

std::string WrapDatagram(const ProxyTarget& destination, std::string_view data) {
  std::string out(3, '\0');  // RSV, and FRAG 0: it stands alone
  if (!destination.name.empty()) {
    const std::string_view name = std::string_view(destination.name).substr(0, UINT8_MAX);
    out += static_cast<char>(kName);
    out += static_cast<char>(name.size());
    out += name;
  } else {
    const auto& bytes = destination.address.ip.bytes();
    const bool v4 = destination.address.ip.IsV4();
    out += static_cast<char>(v4 ? kIpv4 : kIpv6);
    out.append(bytes.begin() + (v4 ? 12 : 0), bytes.end());
  }
  out += static_cast<char>(destination.address.port >> 8);
  out += static_cast<char>(destination.address.port & 0xff);
  out += data;
  return out;
}

std::optional<RelayedDatagram> UnwrapDatagram(std::string_view bytes) {
  if (bytes.size() < kFixedPart + 1 || At(bytes, 2) != 0) {
    return std::nullopt;
  }
  size_t start = kFixedPart;
  size_t length = 0;
  switch (At(bytes, 3)) {
    case kIpv4:
      length = 4;
      break;
    case kIpv6:
      length = 16;
      break;
    case kName:
      length = At(bytes, start++);
      break;
    default:
      return std::nullopt;
  }
  if (length == 0 || bytes.size() < start + length + 2) {
    return std::nullopt;
  }
  RelayedDatagram out;
  const std::string_view host = bytes.substr(start, length);
  if (At(bytes, 3) == kName) {
    out.source.name = host;
  } else if (length == 4) {
    std::array<uint8_t, 4> v4{};
    memcpy(v4.data(), host.data(), v4.size());
    out.source.address.ip = policy::IpAddress::FromV4(v4);
  } else {
    std::array<uint8_t, 16> v6{};
    memcpy(v6.data(), host.data(), v6.size());
    out.source.address.ip = policy::IpAddress(v6);
  }
  start += length;
  out.source.address.port = static_cast<uint16_t>(At(bytes, start) << 8 | At(bytes, start + 1));
  out.data = bytes.substr(start + 2);
  return out;
}

}  // namespace oakum::agent
