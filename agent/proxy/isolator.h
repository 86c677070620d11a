// Credentials that keep connections apart: "isolate".
#ifndef OAKUM_AGENT_PROXY_ISOLATOR_H_
#define OAKUM_AGENT_PROXY_ISOLATOR_H_

#include <sys/types.h>

#include <cstddef>
#include <list>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "agent/proxy/dial.h"
#include "policy/proxy.h"

namespace oakum::agent {

// Of one container. Thread-safe.
class Isolator {
 public:
  // Credentials of 384 random bits (getrandom(2)) for what `proxy.isolate` keeps apart; nothing for
  // kNone: the URL's own are used. `tgid` and `start_time` (proc_pid_stat(5), field 22) tell a
  // process.
  [[nodiscard]] std::optional<Credentials> For(const policy::Proxy& proxy,
                                               const ProxyTarget& target, pid_t tgid,
                                               uint64_t start_time);

 private:
  struct Entry {
    std::string key;
    Credentials credentials;
  };
  static constexpr size_t kMaxEntries = 4096;  // the one used longest ago goes

  std::mutex mutex_;
  std::list<Entry> entries_;  // the one used last first
  std::unordered_map<std::string, std::list<Entry>::iterator> by_key_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_ISOLATOR_H_
