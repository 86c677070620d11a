#include "policy/address.h"

#include <arpa/inet.h>

#include <algorithm>

namespace oakum::policy {

namespace {

constexpr std::array<uint8_t, 12> kNat64Prefix = {0, 0x64, 0xff, 0x9b};            // 64:ff9b::/96
constexpr std::array<uint8_t, 6> kNat64LocalPrefix = {0, 0x64, 0xff, 0x9b, 0, 1};  // RFC 8215
constexpr std::array<uint8_t, 2> kSixToFourPrefix = {0x20, 0x02};
constexpr std::array<uint8_t, 12> kCompatiblePrefix = {};

template <size_t N>
bool StartsWith(const std::array<uint8_t, 16>& bytes, const std::array<uint8_t, N>& prefix) {
  return std::equal(prefix.begin(), prefix.end(), bytes.begin());
}

IpAddress V4At(const std::array<uint8_t, 16>& bytes, size_t offset) {
  return IpAddress::FromV4(
      {bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]});
}

}  // namespace

std::optional<IpAddress> IpAddress::Parse(std::string_view text) {
  // inet_pton(3) wants a terminated string; the longest address has INET6_ADDRSTRLEN - 1 bytes.
  char buffer[INET6_ADDRSTRLEN];
  if (text.size() >= sizeof buffer || text.find('\0') != std::string_view::npos) {
    return std::nullopt;
  }
  text.copy(buffer, text.size());
  buffer[text.size()] = '\0';
  std::array<uint8_t, 4> v4;
  if (inet_pton(AF_INET, buffer, v4.data()) == 1) {
    return FromV4(v4);
  }
  IpAddress address;
  if (inet_pton(AF_INET6, buffer, address.bytes_.data()) == 1) {
    return address;
  }
  return std::nullopt;
}

std::string IpAddress::ToString() const {
  char buffer[INET6_ADDRSTRLEN] = {};
  if (IsV4()) {
    inet_ntop(AF_INET, bytes_.data() + 12, buffer, sizeof buffer);
  } else {
    inet_ntop(AF_INET6, bytes_.data(), buffer, sizeof buffer);
  }
  return buffer;
}

IpAddress CanonicalDestination(const IpAddress& address) {
  static constexpr std::array<uint8_t, 16> kLoopback = {0, 0, 0, 0, 0, 0, 0, 0,
                                                        0, 0, 0, 0, 0, 0, 0, 1};
  if (address.first_half() != 0) {
    return address;
  }
  if (address.second_half() == 0) {
    return IpAddress(kLoopback);
  }
  if (address == IpAddress::FromV4({0, 0, 0, 0})) {
    return IpAddress::FromV4({127, 0, 0, 1});
  }
  return address;
}

std::optional<IpAddress> EmbeddedV4(const IpAddress& address) {
  if (address.IsV4()) {
    return std::nullopt;
  }
  const std::array<uint8_t, 16>& bytes = address.bytes();
  if (StartsWith(bytes, kNat64Prefix) || StartsWith(bytes, kNat64LocalPrefix)) {
    return V4At(bytes, 12);
  }
  if (StartsWith(bytes, kSixToFourPrefix)) {
    return V4At(bytes, 2);
  }
  // An IPv4-compatible address (RFC 4291 section 2.5.5.1); ::/104 holds :: and ::1.
  if (StartsWith(bytes, kCompatiblePrefix) && bytes[12] != 0) {
    return V4At(bytes, 12);
  }
  return std::nullopt;
}

}  // namespace oakum::policy
