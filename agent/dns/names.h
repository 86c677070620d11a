// Which names a container was told which addresses for.
#ifndef OAKUM_AGENT_DNS_NAMES_H_
#define OAKUM_AGENT_DNS_NAMES_H_

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "policy/address.h"

namespace oakum::agent {

// Of one container. Thread-safe. Names are lower case without a final dot, at most 253 bytes.
class Names {
 public:
  using Clock = std::chrono::steady_clock;

  Names();
  ~Names();
  Names(const Names&) = delete;
  Names& operator=(const Names&) = delete;

  // The synthetic addresses of a name: of 198.18.0.0/15 (RFC 2544) and of fd6f:616b:756d::/64 (RFC
  // 4193). The same as long as it is in use; when all are taken, that of the name used longest ago.
  [[nodiscard]] policy::IpAddress SyntheticV4(std::string_view name);
  [[nodiscard]] policy::IpAddress SyntheticV6(std::string_view name);
  // Whether an address is of the pool, whoever may have it.
  [[nodiscard]] static bool IsSynthetic(const policy::IpAddress& ip);

  // A real answer: `ip` was told for `name`, to be kept for `ttl` (bounded from below and above).
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
