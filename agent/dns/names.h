// Which names a container was told which addresses for.
#ifndef OAKUM_AGENT_DNS_NAMES_H_
#define OAKUM_AGENT_DNS_NAMES_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/unique_fd.h"
#include "policy/address.h"

namespace oakum::agent {

// Of one container. Thread-safe. Names are lower case without a final dot, at most 253 bytes.
// Everything is bounded; what was used longest ago goes first.
class Names {
 public:
  using Clock = std::chrono::steady_clock;

  // Synthetic names at a time: three quarters of the 131,072 addresses of the IPv4 pool, so that a
  // free one is found at once. And the sum of their lengths.
  static constexpr size_t kMaxSynthetic = 98'304;
  static constexpr size_t kMaxSyntheticBytes = size_t{8} << 20;
  // Pairs of a real address and a name, and names of one address.
  static constexpr size_t kMaxLearned = 16'384;
  static constexpr size_t kMaxNamesOfAddress = 16;
  // How long an answer binds: its TTL within these, and a while longer, since programs connect
  // after they have asked.
  static constexpr std::chrono::seconds kMinTtl{30};
  static constexpr std::chrono::seconds kMaxTtl{3600};
  static constexpr std::chrono::seconds kGrace{60};

  Names();
  // `now`: what Clock::now says, for tests.
  explicit Names(std::function<Clock::time_point()> now);
  ~Names();
  Names(const Names&) = delete;
  Names& operator=(const Names&) = delete;

  // From now on all this is written into `file` (NamesFile) as well, for the next agent; what is
  // there already is taken over first. To be called before anything else. Without a file that is
  // known, nothing is.
  void KeepIn(UniqueFd file);

  // The synthetic addresses of a name: of 198.18.0.0/15 (RFC 2544) and of fd6f:616b:756d::/64 (RFC
  // 4193). The same as long as it is in use; when all are taken, that of the name used longest ago.
  // Where in the pool follows from the name alone as long as nobody else is there, so that after a
  // restart of an agent that kept nothing an address that a program has kept is the same name's or
  // nobody's.
  [[nodiscard]] policy::IpAddress SyntheticV4(std::string_view name);
  [[nodiscard]] policy::IpAddress SyntheticV6(std::string_view name);
  // Whether an address is of the pool, whoever may have it.
  [[nodiscard]] static bool IsSynthetic(const policy::IpAddress& ip);

  // A real answer: `ip` was told for `name`, to be kept for `ttl` (bounded from below and above).
  // Nothing happens for an address that no name of the outside world has: loopback, link-local (the
  // cloud's 169.254.169.254 among them), unspecified, multicast, broadcast, synthetic. What carries
  // an IPv4 address inside (policy::EmbeddedV4) counts as that one.
  void Learn(std::string_view name, const policy::IpAddress& ip, std::chrono::seconds ttl);

  // The names that are valid for `ip` now, the one told last first; of a synthetic address the one
  // that it stands for, whose use this counts as.
  [[nodiscard]] std::vector<std::string> Of(const policy::IpAddress& ip);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_DNS_NAMES_H_
