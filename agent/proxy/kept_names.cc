#include "agent/proxy/kept_names.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <vector>

#include "agent/kept/fd_store.h"

namespace oakum::agent {

namespace {

constexpr size_t kCookieBytes = 7;
constexpr size_t kAddressBytes = 16;
constexpr size_t kRelayBytes = 8 + 2 * kCookieBytes + kAddressBytes + 2;
constexpr size_t kHeldBytes = 8 + kCookieBytes + 4 + 4 + kAddressBytes + 2;
constexpr size_t kGateBytes = 8 + kCookieBytes + kAddressBytes + 2 + 1;
constexpr size_t Encoded(size_t bytes) { return (bytes + 2) / 3 * 4; }
constexpr std::string_view kRelay = kKeptRelayPrefix;
constexpr std::string_view kHeld = "relay-h";  // longer than any of the others
constexpr std::string_view kGate = "relay-g";  // shorter
static_assert(kGate.size() + Encoded(kGateBytes) < kRelay.size() + Encoded(kRelayBytes));
static_assert(kRelay.size() + Encoded(kRelayBytes) < kHeld.size() + Encoded(kHeldBytes));
static_assert(kHeld.size() + Encoded(kHeldBytes) < kMaxKeptName);

class Writer {
 public:
  void Put(uint64_t value, size_t bytes) {
    for (size_t i = bytes; i > 0; --i) {
      bytes_.push_back(static_cast<uint8_t>(value >> (8 * (i - 1))));
    }
  }
  void Put(const policy::Endpoint& endpoint) {
    const auto& address = endpoint.ip.bytes();
    bytes_.insert(bytes_.end(), address.begin(), address.end());
    Put(endpoint.port, 2);
  }
  [[nodiscard]] std::string Name(std::string_view prefix) const {
    std::array<uint8_t, kMaxKeptName> text = {};
    const int size = EVP_EncodeBlock(text.data(), bytes_.data(), static_cast<int>(bytes_.size()));
    return std::string(prefix) + std::string(text.data(), text.data() + size);
  }

 private:
  std::vector<uint8_t> bytes_;
};

class Reader {
 public:
  // Nothing unless `name` is the prefix and `bytes` bytes.
  static std::optional<Reader> Of(std::string_view name, std::string_view prefix, size_t bytes) {
    if (!name.starts_with(prefix) || name.size() != prefix.size() + Encoded(bytes)) {
      return std::nullopt;
    }
    const std::vector<uint8_t> text(name.begin() + static_cast<ptrdiff_t>(prefix.size()),
                                    name.end());
    Reader reader;
    if (EVP_DecodeBlock(reader.bytes_.data(), text.data(), static_cast<int>(text.size())) < 0) {
      return std::nullopt;
    }
    return reader;
  }
  uint64_t Get(size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; ++i) {
      value = (value << 8) | bytes_.at(at_++);
    }
    return value;
  }
  policy::Endpoint GetEndpoint() {
    std::array<uint8_t, kAddressBytes> address = {};
    std::copy_n(bytes_.begin() + static_cast<ptrdiff_t>(at_), address.size(), address.begin());
    at_ += address.size();
    return {policy::IpAddress(address), static_cast<uint16_t>(Get(2))};
  }

 private:
  std::array<uint8_t, kMaxKeptName> bytes_ = {};
  size_t at_ = 0;
};

bool Fits(uint64_t cookie) { return cookie != 0 && cookie >> (8 * kCookieBytes) == 0; }

}  // namespace

uint64_t SessionOfName(std::string_view session_name) {
  constexpr std::string_view kPrefix = kKeptSessionPrefix;
  uint64_t number = 0;
  if (!session_name.starts_with(kPrefix)) {
    return 0;
  }
  const auto digits = session_name.substr(kPrefix.size());
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), number, 16);
  return error == std::errc() && end == digits.data() + digits.size() ? number : 0;
}

std::string EncodeRelayName(const RelayIdentity& identity) {
  if (identity.session == 0 || !Fits(identity.near) || !Fits(identity.client)) {
    return {};
  }
  Writer writer;
  writer.Put(identity.session, 8);
  writer.Put(identity.near, kCookieBytes);
  writer.Put(identity.client, kCookieBytes);
  writer.Put(identity.asked);
  return writer.Name(kRelay);
}

std::optional<RelayIdentity> DecodeRelayName(std::string_view name) {
  auto reader = Reader::Of(name, kRelay, kRelayBytes);
  if (!reader) {
    return std::nullopt;
  }
  RelayIdentity identity;
  identity.session = reader->Get(8);
  identity.near = reader->Get(kCookieBytes);
  identity.client = reader->Get(kCookieBytes);
  identity.asked = reader->GetEndpoint();
  return EncodeRelayName(identity) == name ? std::optional(identity) : std::nullopt;
}

std::string EncodeHeldName(const HeldIdentity& identity) {
  if (identity.session == 0 || !Fits(identity.client) || identity.tgid <= 0 ||
      identity.number < 0) {
    return {};
  }
  Writer writer;
  writer.Put(identity.session, 8);
  writer.Put(identity.client, kCookieBytes);
  writer.Put(static_cast<uint32_t>(identity.tgid), 4);
  writer.Put(static_cast<uint32_t>(identity.number), 4);
  writer.Put(identity.asked);
  return writer.Name(kHeld);
}

std::optional<HeldIdentity> DecodeHeldName(std::string_view name) {
  auto reader = Reader::Of(name, kHeld, kHeldBytes);
  if (!reader) {
    return std::nullopt;
  }
  HeldIdentity identity;
  identity.session = reader->Get(8);
  identity.client = reader->Get(kCookieBytes);
  identity.tgid = static_cast<pid_t>(reader->Get(4));
  identity.number = static_cast<int>(reader->Get(4));
  identity.asked = reader->GetEndpoint();
  return EncodeHeldName(identity) == name ? std::optional(identity) : std::nullopt;
}

std::string EncodeGateName(const GateIdentity& identity) {
  if (identity.session == 0 || !Fits(identity.gate)) {
    return {};
  }
  Writer writer;
  writer.Put(identity.session, 8);
  writer.Put(identity.gate, kCookieBytes);
  writer.Put(identity.destination);
  writer.Put(identity.resolver ? 1 : 0, 1);
  return writer.Name(kGate);
}

std::optional<GateIdentity> DecodeGateName(std::string_view name) {
  auto reader = Reader::Of(name, kGate, kGateBytes);
  if (!reader) {
    return std::nullopt;
  }
  GateIdentity identity;
  identity.session = reader->Get(8);
  identity.gate = reader->Get(kCookieBytes);
  identity.destination = reader->GetEndpoint();
  identity.resolver = reader->Get(1) != 0;
  return EncodeGateName(identity) == name ? std::optional(identity) : std::nullopt;
}

}  // namespace oakum::agent
