// IP addresses as policy compares them: canonical values, never text.
#ifndef OAKUM_POLICY_ADDRESS_H_
#define OAKUM_POLICY_ADDRESS_H_

#include <array>
#include <compare>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>

namespace oakum::policy {

// An IPv4 or IPv6 address in network byte order. IPv4 is stored in its mapped form
// (::ffff:a.b.c.d, RFC 4291 section 2.5.5.2), so that one 128-bit value compares both.
class IpAddress {
 public:
  IpAddress() = default;  // ::
  explicit IpAddress(const std::array<uint8_t, 16>& bytes) : bytes_(bytes) {}
  [[nodiscard]] static constexpr IpAddress FromV4(const std::array<uint8_t, 4>& bytes) {
    IpAddress address;
    address.bytes_ = {0, 0, 0,    0,    0,        0,        0,        0,
                      0, 0, 0xff, 0xff, bytes[0], bytes[1], bytes[2], bytes[3]};
    return address;
  }
  // inet_pton(3) syntax without brackets, scope or prefix. Empty optional when it is not one.
  [[nodiscard]] static std::optional<IpAddress> Parse(std::string_view text);

  [[nodiscard]] const std::array<uint8_t, 16>& bytes() const { return bytes_; }
  // The two halves as they lie in memory; for fast comparison.
  [[nodiscard]] uint64_t first_half() const { return Half(0); }
  [[nodiscard]] uint64_t second_half() const { return Half(8); }
  // Whether it is in mapped form.
  [[nodiscard]] bool IsV4() const {
    return first_half() == 0 && bytes_[8] == 0 && bytes_[9] == 0 && bytes_[10] == 0xff &&
           bytes_[11] == 0xff;
  }
  // 1.2.3.4 for a mapped address, RFC 5952 otherwise.
  [[nodiscard]] std::string ToString() const;

  bool operator==(const IpAddress& other) const {
    return first_half() == other.first_half() && second_half() == other.second_half();
  }
  auto operator<=>(const IpAddress& other) const { return bytes_ <=> other.bytes_; }

 private:
  [[nodiscard]] uint64_t Half(size_t offset) const {
    uint64_t half = 0;
    std::memcpy(&half, bytes_.data() + offset, sizeof half);
    return half;
  }

  std::array<uint8_t, 16> bytes_{};
};

// What the kernel really reaches when a program names `address` as a destination: 0.0.0.0 and ::
// are loopback (ip(7), ipv6(7)). Other addresses are returned as they are.
[[nodiscard]] IpAddress CanonicalDestination(const IpAddress& address);

// The IPv4 address carried inside a NAT64 (64:ff9b::/96, RFC 6052; 64:ff9b:1::/48, RFC 8215, read
// with the IPv4 address in the last four bytes), a 6to4 (2002::/16, RFC 3056) or an IPv4-compatible
// address (::/96, RFC 4291 section 2.5.5.1: Linux's sit device tunnels to it). What holds for the
// IPv4 address holds for the carrier as well: the stricter of the two decisions counts.
[[nodiscard]] std::optional<IpAddress> EmbeddedV4(const IpAddress& address);

struct Endpoint {
  IpAddress ip;
  uint16_t port = 0;  // host byte order

  auto operator<=>(const Endpoint&) const = default;
};

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_ADDRESS_H_
