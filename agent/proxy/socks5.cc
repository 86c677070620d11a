#include "agent/proxy/socks5.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace oakum::agent {

namespace {

constexpr uint8_t kVersion = 5;
constexpr uint8_t kCredentialsVersion = 1;  // RFC 1929 section 2
constexpr uint8_t kNoAuthentication = 0;
constexpr uint8_t kUserAndPassword = 2;
constexpr uint8_t kIpv4 = 1;
constexpr uint8_t kName = 3;
constexpr uint8_t kIpv6 = 4;
constexpr size_t kMaxField = 255;

// The shortest reply: a name of no bytes. Every other one is longer, so that many bytes can be
// taken before it is known what it holds.
constexpr size_t kShortestReply = 7;
constexpr size_t kIpv4Reply = 10;
constexpr size_t kIpv6Reply = 22;
constexpr size_t kNameAt = 5;

char Byte(size_t value) { return static_cast<char>(static_cast<uint8_t>(value)); }

uint8_t CommandCode(ProxyCommand command) {
  switch (command) {
    case ProxyCommand::kConnect:
      return 1;
    case ProxyCommand::kUdpAssociate:
      return 3;
    case ProxyCommand::kResolve:
      return 0xf0;
    case ProxyCommand::kResolvePtr:
      return 0xf1;
    case ProxyCommand::kGreet:
      break;
  }
  return 0;
}

std::string Field(std::string_view text) {
  std::string out(1, Byte(text.size()));
  out.append(text);
  return out;
}

std::string Request(ProxyCommand command, const ProxyTarget& target) {
  std::string out = {Byte(kVersion), Byte(CommandCode(command)), 0};
  if (!target.name.empty() && command != ProxyCommand::kResolvePtr) {
    out.push_back(Byte(kName));
    out.append(Field(target.name));
  } else {
    const auto& bytes = target.address.ip.bytes();
    const bool v4 = target.address.ip.IsV4();
    out.push_back(Byte(v4 ? kIpv4 : kIpv6));
    out.append(bytes.begin() + (v4 ? 12 : 0), bytes.end());
  }
  out.push_back(Byte(target.address.port >> 8));
  out.push_back(Byte(target.address.port & 0xff));
  return out;
}

struct Refusal {
  uint8_t code;
  int error;
  const char* text;
  bool destination;
};

// RFC 1928 section 6; from 0xf0 on Tor's ExtendedErrors (tor(1), socks-extensions). The destination
// is to blame where the proxy reports what became of it, and where its rules forbid it: another
// proxy is for one that fails, not for one that says no.
constexpr std::array<Refusal, 16> kRefusals = {{
    {1, ECONNREFUSED, "reports a general failure", false},
    {2, EACCES, "does not allow the destination", true},
    {3, ENETUNREACH, "reports that the network is unreachable", true},
    {4, EHOSTUNREACH, "reports that the host is unreachable", true},
    {5, ECONNREFUSED, "reports that the destination refused the connection", true},
    {6, ETIMEDOUT, "reports that the destination did not answer in time", true},
    {7, ENETUNREACH, "does not know the command", false},
    {8, ENETUNREACH, "does not know the type of address", false},
    {0xf0, EHOSTUNREACH, "reports that the onion service's descriptor was not found", true},
    {0xf1, EHOSTUNREACH, "reports that the onion service's descriptor is invalid", true},
    {0xf2, EHOSTUNREACH, "reports that the onion service was not introduced", true},
    {0xf3, EHOSTUNREACH, "reports that the rendezvous with the onion service failed", true},
    {0xf4, EACCES, "reports that the onion service wants client authorization", true},
    {0xf5, EACCES, "reports that the onion service refused the client authorization", true},
    {0xf6, EHOSTUNREACH, "reports that the onion address is invalid", true},
    {0xf7, ETIMEDOUT, "reports that the introduction to the onion service timed out", true},
}};

}  // namespace

Socks5::Socks5(ProxyCommand command, const ProxyTarget& target, Credentials credentials)
    : command_(command), credentials_(std::move(credentials)) {
  if (command == ProxyCommand::kResolve ? !IsProxyableName(target.name)
                                        : !target.name.empty() && !IsProxyableName(target.name)) {
    Fail(EHOSTUNREACH, "not asked: the name cannot be handed to a proxy", true);
    return;
  }
  if (credentials_.user.size() > kMaxField || credentials_.password.size() > kMaxField) {
    Fail(EACCES, "not asked: the credentials are too long");
    return;
  }
  request_ = Request(command, target);
  const uint8_t method = credentials_.user.empty() ? kNoAuthentication : kUserAndPassword;
  out_ = {Byte(kVersion), 1, Byte(method)};
}

size_t Socks5::MessageSize() const {
  switch (awaits_) {
    case Awaits::kMethod:
    case Awaits::kCredentials:
      return 2;
    case Awaits::kReply:
      break;
  }
  if (in_.size() < kShortestReply) {
    return kShortestReply;
  }
  switch (static_cast<uint8_t>(in_[3])) {
    case kIpv4:
      return kIpv4Reply;
    case kIpv6:
      return kIpv6Reply;
    default:  // kName: others have failed
      return kShortestReply + static_cast<uint8_t>(in_[4]);
  }
}

size_t Socks5::wants() const { return over() ? 0 : MessageSize() - in_.size(); }

size_t Socks5::Take(std::string_view bytes) {
  size_t taken = 0;
  while (taken < bytes.size() && wants() > 0 && out_.empty()) {
    const size_t size = std::min(bytes.size() - taken, wants());
    in_.append(bytes.substr(taken, size));
    taken += size;
    switch (awaits_) {
      case Awaits::kMethod:
        ReadMethod();
        break;
      case Awaits::kCredentials:
        ReadCredentials();
        break;
      case Awaits::kReply:
        ReadReply();
        break;
    }
  }
  return taken;
}

std::string Socks5::Where() const {
  switch (awaits_) {
    case Awaits::kMethod:
      return "before it chose a method of authentication";
    case Awaits::kCredentials:
      return "before it judged the credentials";
    case Awaits::kReply:
      break;
  }
  return "before it answered the request";
}

void Socks5::WrongVersion(uint8_t version) {
  switch (version) {
    case 'H':
      return Fail(EPROTO, "does not speak SOCKS5: it answers as HTTP does");
    case 0:
      return Fail(EPROTO, "does not speak SOCKS5: it answers as SOCKS4 does");
    default:
      return Fail(EPROTO, fmt::format("does not speak SOCKS5: it answers with 0x{:02x}", version));
  }
}

void Socks5::ReadMethod() {
  const auto version = static_cast<uint8_t>(in_[0]);
  if (version != kVersion) {
    return WrongVersion(version);
  }
  if (in_.size() < MessageSize()) {
    return;
  }
  const auto method = static_cast<uint8_t>(in_[1]);
  const bool authenticates = !credentials_.user.empty();
  in_.clear();
  if (method == 0xff) {
    return Fail(EACCES, authenticates ? "refused to take a user and a password"
                                      : "refused to do without authentication");
  }
  if (method != (authenticates ? kUserAndPassword : kNoAuthentication)) {
    return Fail(EPROTO, fmt::format("chose method {} that was not offered", method));
  }
  if (!authenticates) {
    return SendRequest();
  }
  awaits_ = Awaits::kCredentials;
  out_ = {Byte(kCredentialsVersion)};
  out_.append(Field(credentials_.user));
  out_.append(Field(credentials_.password));
}

void Socks5::ReadCredentials() {
  const auto version = static_cast<uint8_t>(in_[0]);
  if (version != kCredentialsVersion) {
    return Fail(EPROTO, fmt::format("does not speak RFC 1929: it answers with 0x{:02x}", version));
  }
  if (in_.size() < MessageSize()) {
    return;
  }
  const bool accepted = in_[1] == 0;
  in_.clear();
  if (!accepted) {
    return Fail(EACCES, "refused the credentials");
  }
  SendRequest();
}

void Socks5::SkipGreeting() {
  if (!over()) {
    SendRequest();
  }
}

void Socks5::SendRequest() {
  if (command_ == ProxyCommand::kGreet) {
    done_ = true;
    return;
  }
  awaits_ = Awaits::kReply;
  requested_ = true;
  out_ = std::move(request_);
}

void Socks5::Refused(uint8_t code) {
  for (const Refusal& refusal : kRefusals) {
    if (refusal.code == code) {
      return Fail(refusal.error, refusal.text, refusal.destination);
    }
  }
  Fail(ECONNREFUSED, fmt::format("refused with code {}", code));
}

// A refusal counts from its second byte on: some proxies close before they have written all of it.
void Socks5::ReadReply() {
  const auto version = static_cast<uint8_t>(in_[0]);
  if (version != kVersion) {
    return WrongVersion(version);
  }
  if (in_.size() >= 2 && in_[1] != 0) {
    return Refused(static_cast<uint8_t>(in_[1]));
  }
  if (in_.size() < 4) {
    return;
  }
  const auto type = static_cast<uint8_t>(in_[3]);
  if (type != kIpv4 && type != kIpv6 && type != kName) {
    return Fail(EPROTO, fmt::format("answered with an unknown type of address, {}", type));
  }
  if (in_.size() < MessageSize()) {
    return;
  }
  const bool names = command_ == ProxyCommand::kResolvePtr;
  if (command_ != ProxyCommand::kConnect && names != (type == kName)) {
    return Fail(EPROTO, names ? "answered with an address where a name was asked for"
                              : "answered with a name where an address was asked for");
  }
  if (type == kName) {
    resolved_name_ = in_.substr(kNameAt, static_cast<uint8_t>(in_[4]));
    if (names && !IsProxyableName(resolved_name_)) {
      resolved_name_.clear();
      return Fail(EPROTO, "answered with something that is no name");
    }
  } else if (type == kIpv4) {
    std::array<uint8_t, 4> bytes{};
    std::copy_n(in_.begin() + 4, bytes.size(), bytes.begin());
    bound_.ip = policy::IpAddress::FromV4(bytes);
  } else {
    std::array<uint8_t, 16> bytes{};
    std::copy_n(in_.begin() + 4, bytes.size(), bytes.begin());
    bound_.ip = policy::IpAddress(bytes);
  }
  const auto high = static_cast<uint8_t>(in_[in_.size() - 2]);
  const auto low = static_cast<uint8_t>(in_[in_.size() - 1]);
  bound_.port = static_cast<uint16_t>(high << 8 | low);
  done_ = true;
}

}  // namespace oakum::agent
