#include "agent/proxy/isolator.h"

#include <fmt/format.h>
#include <sys/random.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "agent/proxy/handshake.h"

namespace oakum::agent {

namespace {

// RFC 4648 section 5: 6 bits a character, 64 characters are 384 bits.
constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr size_t kLength = 64;

// Tor's format 0 (socks-extensions, "<torS0X>"): no parameters, the password isolates.
constexpr std::string_view kTorUser = "<torS0X>0";
// Short and the same for all: what isolates is the password, and proxies compare the pair.
constexpr std::string_view kUser = "oakum";

std::string RandomText() {
  std::array<uint8_t, kLength> bytes{};
  // getrandom(2): up to 256 bytes come whole, and never fail once the pool is ready.
  ssize_t got = -1;
  do {
    got = getrandom(bytes.data(), bytes.size(), 0);
  } while (got < 0 && errno == EINTR);
  if (got != static_cast<ssize_t>(bytes.size())) {
    std::abort();  // a kernel without it: whatever went on would join what is to be kept apart
  }
  std::string text;
  for (const uint8_t byte : bytes) {
    text.push_back(kAlphabet[byte % kAlphabet.size()]);  // 256 is a multiple of 64
  }
  return text;
}

std::string Key(const policy::Proxy& proxy, const ProxyTarget& target, pid_t tgid,
                uint64_t start_time) {
  switch (proxy.isolate) {
    case policy::Isolation::kNone:
    case policy::Isolation::kContainer:
    case policy::Isolation::kConnection:
      break;
    case policy::Isolation::kProcess:
      return fmt::format("{}\n{}\n{}", proxy.name, tgid, start_time);
    case policy::Isolation::kDestination:
      return fmt::format("{}\n{}", proxy.name, HostAndPort(target.name, target.address));
  }
  return proxy.name;
}

}  // namespace

std::optional<Credentials> Isolator::For(const policy::Proxy& proxy, const ProxyTarget& target,
                                         pid_t tgid, uint64_t start_time) {
  if (proxy.isolate == policy::Isolation::kNone) {
    return std::nullopt;
  }
  const bool keep = proxy.isolate != policy::Isolation::kConnection;
  // The kind and the format belong to the key: a reloaded policy may say otherwise.
  const std::string key =
      keep ? fmt::format("{}\n{}\n{}", static_cast<int>(proxy.isolate),
                         static_cast<int>(proxy.format), Key(proxy, target, tgid, start_time))
           : std::string();
  const std::lock_guard lock(mutex_);
  if (keep) {
    if (const auto found = by_key_.find(key); found != by_key_.end()) {
      entries_.splice(entries_.begin(), entries_, found->second);
      return found->second->credentials;
    }
  }
  Credentials credentials{
      .user = std::string(proxy.format == policy::CredentialFormat::kTor ? kTorUser : kUser),
      .password = RandomText()};
  if (keep) {
    if (entries_.size() >= kMaxEntries) {
      by_key_.erase(entries_.back().key);
      entries_.pop_back();
    }
    entries_.push_front(Entry{key, credentials});
    by_key_[key] = entries_.begin();
  }
  return credentials;
}

}  // namespace oakum::agent
