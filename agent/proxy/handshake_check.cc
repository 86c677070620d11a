#include "agent/proxy/handshake_check.h"

#include <strings.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <utility>

#include "agent/proxy/handshake.h"

namespace oakum::agent {

namespace {

// RFC 1928 sections 3, 4 and 6; RFC 1929 section 2.
constexpr char kVersion5 = 5;
constexpr char kVersion4 = 4;
constexpr char kNoMethod = '\xff';
constexpr char kMethodNone = 0;
constexpr char kMethodPassword = 2;
constexpr char kConnect = 1;
constexpr char kTypeV4 = 1;
constexpr char kTypeName = 3;
constexpr char kTypeV6 = 4;
constexpr char kNotAllowed = 2;
constexpr char kCommandNotSupported = 7;
// RFC 8446 section 5.1: a record with a ClientHello.
constexpr char kTlsHandshake = 22;

constexpr std::string_view kTorUser = "<torS0X>";  // Tor proposal 351

uint8_t Byte(char c) { return static_cast<uint8_t>(c); }

std::string Reply(char code, const policy::Endpoint& bound) {
  std::string reply = {kVersion5, code, 0, bound.ip.IsV4() ? kTypeV4 : kTypeV6};
  const auto& bytes = bound.ip.bytes();
  reply.append(bytes.begin() + (bound.ip.IsV4() ? 12 : 0), bytes.end());
  reply.push_back(static_cast<char>(bound.port >> 8));
  reply.push_back(static_cast<char>(bound.port & 0xff));
  return reply;
}

std::string EmptyReply(char code) {
  return Reply(code, {policy::IpAddress::FromV4({0, 0, 0, 0}), 0});
}

char CodeOf(int error) {
  switch (error) {
    case ENETUNREACH:
      return 3;
    case EHOSTUNREACH:
      return 4;
    case ECONNREFUSED:
      return 5;
    case ETIMEDOUT:
      return 6;  // "TTL expired"
    case EACCES:
      return kNotAllowed;
    default:
      return 1;
  }
}

// RFC 4648 section 4, with the padding that belongs there.
std::optional<std::string> DecodeBase64(std::string_view text) {
  static constexpr std::string_view kAlphabet =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  if (text.size() % 4 != 0) {
    return std::nullopt;
  }
  size_t padding = 0;
  while (padding < 2 && text.ends_with('=')) {
    text.remove_suffix(1);
    ++padding;
  }
  std::string out;
  uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) {
      return std::nullopt;
    }
    bits = bits << 6 | static_cast<uint32_t>(value);
    count += 6;
    if (count >= 8) {
      count -= 8;
      out.push_back(static_cast<char>(bits >> count & 0xff));
    }
  }
  return out;
}

bool EqualsIgnoringCase(std::string_view a, std::string_view b) {
  return a.size() == b.size() && strncasecmp(a.data(), b.data(), a.size()) == 0;
}

std::string_view Trim(std::string_view text) {
  const size_t start = text.find_first_not_of(" \t");
  if (start == std::string_view::npos) {
    return {};
  }
  return text.substr(start, text.find_last_not_of(" \t") - start + 1);
}

std::optional<uint16_t> ParsePort(std::string_view text) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(port)
                                                                  : std::nullopt;
}

}  // namespace

HandshakeCheck::State HandshakeCheck::Take(std::string_view bytes, std::string& reply) {
  in_.append(bytes);
  while (state_ == State::kReading && Advance(reply)) {
  }
  return state_;
}

bool HandshakeCheck::Advance(std::string& reply) {
  switch (phase_) {
    case Phase::kGreeting:
      return Greeting(reply);
    case Phase::kAuthentication:
      return Authentication(reply);
    case Phase::kRequest:
      return Request(reply);
    case Phase::kHead:
      return Head(reply);
  }
  return false;
}

bool HandshakeCheck::Refuse(std::string problem) {
  state_ = State::kRefused;
  problem_ = std::move(problem);
  return false;
}

bool HandshakeCheck::wants_credentials() const {
  switch (rules_.auth) {
    case policy::HandshakeRules::Auth::kAny:
    case policy::HandshakeRules::Auth::kNone:
      return rules_.isolation.has_value();
    case policy::HandshakeRules::Auth::kPassword:
    case policy::HandshakeRules::Auth::kTor:
      break;
  }
  return true;
}

bool HandshakeCheck::CheckCredentials() {
  if (rules_.auth == policy::HandshakeRules::Auth::kTor &&
      !credentials_.user.starts_with(kTorUser)) {
    return Refuse("a user that is not in Tor's format");
  }
  if (credentials_.user.empty()) {
    return Refuse("an empty user");
  }
  if (rules_.isolation && !rules_.isolation->Matches(credentials_.password)) {
    return Refuse("a password that does not match \"isolation\"");
  }
  return true;
}

bool HandshakeCheck::Greeting(std::string& reply) {
  if (in_.empty()) {
    return false;
  }
  const char first = in_[0];
  if (first == kTlsHandshake) {
    return Refuse("TLS");
  }
  const bool text = first >= 'A' && first <= 'Z';
  if (rules_.require == policy::HandshakeRules::Protocol::kHttp) {
    if (!text) {
      return Refuse(first == kVersion5   ? "SOCKS5 where HTTP CONNECT is required"
                    : first == kVersion4 ? "SOCKS4"
                                         : "no HTTP");
    }
    phase_ = Phase::kHead;
    return true;
  }
  if (first != kVersion5) {
    return Refuse(first == kVersion4 ? "SOCKS4" : text ? "HTTP, or text" : "no SOCKS5");
  }
  if (in_.size() < 2 || in_.size() < 2U + Byte(in_[1])) {
    return false;
  }
  const std::string methods = in_.substr(2, Byte(in_[1]));
  in_.erase(0, 2 + methods.size());
  const bool offers_none = methods.find(kMethodNone) != std::string::npos;
  offers_none_ = offers_none;
  const bool offers_password = methods.find(kMethodPassword) != std::string::npos;
  bool password = offers_password;
  switch (rules_.auth) {
    case policy::HandshakeRules::Auth::kAny:
      break;
    case policy::HandshakeRules::Auth::kNone:
      password = false;
      break;
    case policy::HandshakeRules::Auth::kPassword:
    case policy::HandshakeRules::Auth::kTor:
      if (!offers_password || methods.size() != 1) {
        reply += {kVersion5, kNoMethod};
        return Refuse(offers_none ? "offers to go without authentication"
                                  : "offers another authentication than a password");
      }
      break;
  }
  if (wants_credentials() && !password) {
    reply += {kVersion5, kNoMethod};
    return Refuse("no password where \"isolation\" wants one");
  }
  if (!password && !offers_none) {
    reply += {kVersion5, kNoMethod};
    return Refuse("offers no authentication that is allowed");
  }
  reply += {kVersion5, password ? kMethodPassword : kMethodNone};
  phase_ = password ? Phase::kAuthentication : Phase::kRequest;
  return true;
}

bool HandshakeCheck::Authentication(std::string& reply) {
  if (in_.empty()) {
    return false;
  }
  if (in_[0] != 1) {
    if (listens_ && offers_none_ && !wants_credentials()) {
      phase_ = Phase::kRequest;
      return true;
    }
    return Refuse("no authentication after having offered it");
  }
  if (in_.size() < 2) {
    return false;
  }
  const size_t user = Byte(in_[1]);
  if (in_.size() < 3 + user) {
    return false;
  }
  const size_t password = Byte(in_[2 + user]);
  if (in_.size() < 3 + user + password) {
    return false;
  }
  credentials_.user = in_.substr(2, user);
  credentials_.password = in_.substr(3 + user, password);
  in_.erase(0, 3 + user + password);
  const bool good = CheckCredentials();
  reply += {1, static_cast<char>(good ? 0 : 1)};
  phase_ = Phase::kRequest;
  return good;
}

bool HandshakeCheck::Request(std::string& reply) {
  constexpr size_t kFixed = 4;
  if (in_.size() <= kFixed) {
    return false;
  }
  if (in_[0] != kVersion5) {
    return Refuse("no SOCKS5 request");
  }
  const char type = in_[3];
  size_t size = 0;
  switch (type) {
    case kTypeV4:
      size = 4;
      break;
    case kTypeV6:
      size = 16;
      break;
    case kTypeName:
      size = 1U + Byte(in_[kFixed]);
      break;
    default:
      reply += EmptyReply(8);
      return Refuse("an address of an unknown type");
  }
  if (in_.size() < kFixed + size + 2) {
    return false;
  }
  const char command = in_[1];
  const std::string address = in_.substr(kFixed, size);
  target_.address.port =
      static_cast<uint16_t>(Byte(in_[kFixed + size]) << 8 | Byte(in_[kFixed + size + 1]));
  in_.erase(0, kFixed + size + 2);
  if (command != kConnect) {
    reply += EmptyReply(kCommandNotSupported);
    return Refuse(command == 2   ? "BIND"
                  : command == 3 ? "UDP ASSOCIATE"
                                 : "a command other than CONNECT");
  }
  if (type == kTypeName) {
    target_.name = address.substr(1);
    const auto literal = policy::IpAddress::Parse(target_.name);
    if (literal) {
      target_.name.clear();
      target_.address.ip = *literal;
    } else if (!IsProxyableName(target_.name)) {
      reply += EmptyReply(kNotAllowed);
      return Refuse("a name that is none");
    }
  } else if (type == kTypeV4) {
    std::array<uint8_t, 4> bytes;
    memcpy(bytes.data(), address.data(), bytes.size());
    target_.address.ip = policy::IpAddress::FromV4(bytes);
  } else {
    std::array<uint8_t, 16> bytes;
    memcpy(bytes.data(), address.data(), bytes.size());
    target_.address.ip = policy::IpAddress(bytes);
  }
  state_ = State::kAsked;
  return false;
}

bool HandshakeCheck::ReadHost(std::string_view authority) {
  const size_t colon = authority.rfind(':');
  const auto port =
      colon != std::string_view::npos ? ParsePort(authority.substr(colon + 1)) : std::nullopt;
  if (!port) {
    return Refuse("a CONNECT without HOST:PORT");
  }
  target_.address.port = *port;
  std::string_view host = authority.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  if (const auto literal = policy::IpAddress::Parse(host); literal) {
    target_.address.ip = *literal;
    return true;
  }
  if (!IsProxyableName(host)) {
    return Refuse("a name that is none");
  }
  target_.name = host;
  return true;
}

bool HandshakeCheck::Head(std::string& reply) {
  const size_t end = in_.find("\r\n\r\n");
  if (end == std::string::npos) {
    return in_.size() > kMaxHead ? Refuse("an endless request head") : false;
  }
  head_ = in_.substr(0, end + 4);
  in_.erase(0, end + 4);
  const std::string_view line = std::string_view(head_).substr(0, head_.find("\r\n"));
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  const auto refuse = [&](std::string_view status, std::string problem) {
    reply += "HTTP/1.1 ";
    reply += status;
    reply += "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    return Refuse(std::move(problem));
  };
  if (first == std::string_view::npos || line.substr(0, first) != "CONNECT" || last == first ||
      !line.substr(last + 1).starts_with("HTTP/1.")) {
    return refuse("405 Method Not Allowed", "HTTP other than CONNECT");
  }
  std::string_view rest = std::string_view(head_).substr(line.size() + 2);
  int authorizations = 0;
  while (rest != "\r\n") {
    const std::string_view field = rest.substr(0, rest.find("\r\n"));
    rest.remove_prefix(field.size() + 2);
    const size_t colon = field.find(':');
    if (colon == std::string_view::npos || field.find_first_of(" \t\n") < colon) {
      return refuse("400 Bad Request", "a malformed request head");
    }
    if (!EqualsIgnoringCase(field.substr(0, colon), "Proxy-Authorization")) {
      continue;
    }
    const std::string_view value = Trim(field.substr(colon + 1));
    const auto decoded = value.size() > 6 && EqualsIgnoringCase(value.substr(0, 6), "Basic ")
                             ? DecodeBase64(Trim(value.substr(6)))
                             : std::nullopt;
    const size_t split = decoded ? decoded->find(':') : std::string::npos;
    if (++authorizations > 1 || split == std::string::npos) {
      return refuse("400 Bad Request", "another authentication than Basic, or several");
    }
    credentials_ = {decoded->substr(0, split), decoded->substr(split + 1)};
  }
  if (rules_.auth == policy::HandshakeRules::Auth::kNone && authorizations != 0) {
    return refuse("403 Forbidden", "authentication where none is allowed");
  }
  if (authorizations == 0 && wants_credentials()) {
    return refuse("407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"proxy\"",
                  "no authentication");
  }
  if (authorizations != 0 && !CheckCredentials()) {
    return refuse("403 Forbidden", problem_);
  }
  if (!ReadHost(line.substr(first + 1, last - first - 1))) {
    return refuse("400 Bad Request", problem_);
  }
  state_ = State::kAsked;
  return false;
}

std::string HandshakeCheck::Granted(const policy::Endpoint& bound) const {
  if (rules_.require == policy::HandshakeRules::Protocol::kHttp) {
    return "HTTP/1.1 200 Connection established\r\n\r\n";
  }
  const bool known = bound.port != 0 || bound.ip != policy::IpAddress();
  return known ? Reply(0, bound) : EmptyReply(0);
}

std::string HandshakeCheck::Refusal(int error) const {
  if (rules_.require == policy::HandshakeRules::Protocol::kSocks5) {
    return EmptyReply(CodeOf(error));
  }
  const std::string_view status = error == EACCES      ? "403 Forbidden"
                                  : error == ETIMEDOUT ? "504 Gateway Timeout"
                                                       : "502 Bad Gateway";
  return "HTTP/1.1 " + std::string(status) + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
}

}  // namespace oakum::agent
