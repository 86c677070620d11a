#include "agent/dns/host_name.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdint>

namespace oakum::agent::dns {

namespace {

constexpr std::string_view kReverse4 = ".in-addr.arpa";
constexpr std::string_view kReverse6 = ".ip6.arpa";

// Of the label that begins there.
size_t Length(std::string_view wire_name, size_t at) { return static_cast<uint8_t>(wire_name[at]); }

bool IsHostByte(char c) {
  return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

}  // namespace

std::optional<std::string> HostName(std::string_view wire_name) {
  std::string text;
  text.reserve(wire_name.size());
  size_t at = 0;
  while (at < wire_name.size() && Length(wire_name, at) != 0) {
    const size_t length = Length(wire_name, at);
    if (length > kMaxLabel || at + 1 + length >= wire_name.size()) {
      return std::nullopt;
    }
    const std::string_view label = wire_name.substr(at + 1, length);
    if (!std::ranges::all_of(label, IsHostByte)) {
      return std::nullopt;
    }
    if (!text.empty()) {
      text.push_back('.');
    }
    text += label;
    at += 1 + length;
  }
  return text.empty() || at + 1 != wire_name.size() ? std::nullopt : std::optional(std::move(text));
}

bool IsHostName(std::string_view text) {
  const auto wire = WireName(text);
  return wire && HostName(*wire) == text;
}

std::optional<std::string> WireName(std::string_view host_name) {
  if (host_name.empty() || host_name.size() > kMaxWireName - 2) {
    return std::nullopt;
  }
  std::string wire;
  wire.reserve(host_name.size() + 2);
  for (size_t from = 0; from <= host_name.size();) {
    const size_t dot = std::min(host_name.find('.', from), host_name.size());
    const std::string_view label = host_name.substr(from, dot - from);
    if (label.empty() || label.size() > kMaxLabel) {
      return std::nullopt;
    }
    wire.push_back(static_cast<char>(label.size()));
    wire += label;
    from = dot + 1;
  }
  wire.push_back('\0');
  return wire;
}

std::optional<policy::IpAddress> ReverseAddress(std::string_view name) {
  if (name.ends_with(kReverse4)) {
    std::array<uint8_t, 4> bytes{};
    std::string_view left = name.substr(0, name.size() - kReverse4.size());
    for (size_t i = 4; i-- > 0;) {
      const size_t dot = std::min(left.find('.'), left.size());
      const std::string_view part = left.substr(0, dot);
      const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), bytes[i]);
      if (error != std::errc() || end != part.data() + part.size() ||
          (part.size() > 1 && part[0] == '0') || (dot == left.size()) != (i == 0)) {
        return std::nullopt;
      }
      left.remove_prefix(std::min(dot + 1, left.size()));
    }
    return policy::IpAddress::FromV4(bytes);
  }
  if (name.ends_with(kReverse6) && name.size() == 63 + kReverse6.size()) {
    std::array<uint8_t, 16> bytes{};
    for (size_t i = 0; i < 32; ++i) {
      const char digit = name[2 * i];
      uint8_t value = 0;
      if (std::from_chars(&digit, &digit + 1, value, 16).ec != std::errc() ||
          (i < 31 && name[2 * i + 1] != '.')) {
        return std::nullopt;
      }
      bytes[15 - i / 2] |= static_cast<uint8_t>(i % 2 == 0 ? value : value << 4);
    }
    return policy::IpAddress(bytes);
  }
  return std::nullopt;
}

std::string ReverseName(const policy::IpAddress& ip) {
  std::string name;
  const auto& bytes = ip.bytes();
  if (ip.IsV4()) {
    for (size_t i = 16; i-- > 12;) {
      name += std::to_string(bytes[i]) + (i > 12 ? "." : "");
    }
    return name.append(kReverse4);
  }
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (size_t i = 16; i-- > 0;) {
    name += {kDigits[bytes[i] & 0xf], '.', kDigits[bytes[i] >> 4]};
    name += i > 0 ? "." : "";
  }
  return name.append(kReverse6);
}

}  // namespace oakum::agent::dns
