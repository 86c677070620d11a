#include "agent/proxy/http_connect.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

namespace oakum::agent {

namespace {

constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

// "HTTP/1.1 200": RFC 9112 section 4. What is longer is the reason phrase, which nobody needs and
// which a proxy could repeat the credentials in.
constexpr std::string_view kVersion = "HTTP/1.";
constexpr size_t kStatusAt = 9;
constexpr size_t kStatusEnd = 12;

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// Whether `line` can be the start of a status line; what is compared byte by byte as it comes.
bool FitsStatusLine(std::string_view line) {
  for (size_t i = 0; i < std::min(line.size(), kStatusEnd + 1); ++i) {
    const char c = line[i];
    const bool fits = i < kVersion.size()                     ? c == kVersion[i]
                      : i == kStatusAt - 1 || i == kStatusEnd ? c == ' '
                                                              : IsDigit(c);
    if (!fits) {
      return false;
    }
  }
  return true;
}

}  // namespace

std::string Base64(std::string_view bytes) {
  std::string out;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    for (size_t j = 0; j < 3; ++j) {
      group = group << 8 | (j < count ? static_cast<uint8_t>(bytes[i + j]) : 0U);
    }
    for (size_t j = 0; j < 4; ++j) {
      out.push_back(j <= count ? kBase64[group >> (18 - 6 * j) & 63] : '=');
    }
  }
  return out;
}

HttpConnect::HttpConnect(ProxyCommand command, const ProxyTarget& target,
                         const Credentials& credentials, const std::string& head) {
  if (command == ProxyCommand::kGreet) {
    done_ = true;  // the request is the first thing that is said
    return;
  }
  if (command != ProxyCommand::kConnect) {
    Fail(ENETUNREACH, "not asked: an HTTP proxy carries TCP only");
    return;
  }
  requested_ = true;
  if (!head.empty()) {
    out_ = head;
    return;
  }
  if (!target.name.empty() && !IsProxyableName(target.name)) {
    Fail(EHOSTUNREACH, "not asked: the name cannot be handed to a proxy", true);
    return;
  }
  // RFC 7617 section 2: the user holds no colon, neither holds control characters. Encoded they
  // could do no harm here, but would mean something else there.
  if (credentials.user.find(':') != std::string::npos) {
    Fail(EACCES, "not asked: HTTP's user name cannot hold a colon");
    return;
  }
  const std::string place = HostAndPort(target.name, target.address);
  out_ = fmt::format("CONNECT {} HTTP/1.1\r\nHost: {}\r\n", place, place);
  if (!credentials.user.empty()) {
    out_ += fmt::format("Proxy-Authorization: Basic {}\r\n",
                        Base64(credentials.user + ":" + credentials.password));
  }
  out_ += "\r\n";
}

size_t HttpConnect::wants() const { return over() ? 0 : kMaxHead + 1 - seen_; }

size_t HttpConnect::Take(std::string_view bytes) {
  size_t taken = 0;
  while (taken < bytes.size() && !over()) {
    ReadByte(bytes[taken]);
    ++taken;
  }
  return taken;
}

void HttpConnect::ReadByte(char c) {
  if (++seen_ > kMaxHead) {
    return Fail(EPROTO, fmt::format("answered with a head of more than {} bytes", kMaxHead));
  }
  if (c == '\n') {
    if (in_status_) {
      // RFC 9112 section 4: the space after the status is there even without a reason; many leave
      // it out.
      if (line_.size() < kStatusEnd) {
        return Fail(EPROTO, "does not speak HTTP/1: its answer has no status");
      }
      in_status_ = false;
    } else if (line_empty_) {
      return EndHead();
    }
    line_empty_ = true;
    return;
  }
  if (c != '\r') {
    line_empty_ = false;
  }
  if (in_status_ && line_.size() <= kStatusEnd && !(c == '\r' && line_.size() >= kStatusEnd)) {
    line_.push_back(c);
    if (!FitsStatusLine(line_)) {
      Fail(EPROTO, line_[0] == 5 || line_[0] == 0
                       ? "does not speak HTTP/1: it answers as SOCKS does"
                       : "does not speak HTTP/1");
    }
  }
}

void HttpConnect::EndHead() {
  const int status = (line_[kStatusAt] - '0') * 100 + (line_[kStatusAt + 1] - '0') * 10 +
                     (line_[kStatusAt + 2] - '0');
  line_.clear();
  in_status_ = true;
  line_empty_ = true;
  // RFC 9110 section 15.2: interim responses come before the one that counts; 101 is final, and was
  // not asked for.
  if (status >= 100 && status < 200 && status != 101) {
    return;
  }
  Answered(status);
}

// RFC 9110 section 15. The destination is to blame where the proxy reports what became of it, and
// where it forbids it.
void HttpConnect::Answered(int status) {
  if (status >= 200 && status < 300) {
    done_ = true;
    return;
  }
  const auto fail = [this, status](int error, std::string_view text, bool destination) {
    Fail(error, fmt::format("{} (status {})", text, status), destination);
  };
  switch (status) {
    case 101:
      return fail(EPROTO, "switched to a protocol that nobody asked for", false);
    case 401:
    case 407:
      return fail(EACCES, "refused the credentials", false);
    case 403:
      return fail(EACCES, "does not allow the destination", true);
    case 404:
    case 410:
    case 502:
      return fail(EHOSTUNREACH, "could not reach the destination", true);
    case 503:
      return fail(ECONNREFUSED, "could not connect to the destination", true);
    case 504:
      return fail(ETIMEDOUT, "did not hear from the destination in time", true);
    default:
      return fail(ECONNREFUSED, "refused the request", false);
  }
}

}  // namespace oakum::agent
