// Which URLs of a proxy work.
#ifndef OAKUM_AGENT_PROXY_UPSTREAMS_H_
#define OAKUM_AGENT_PROXY_UPSTREAMS_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "agent/proxy/host_resolver.h"
#include "agent/proxy/tls_context.h"
#include "policy/proxy.h"

namespace oakum::agent {

// Remembered by what a URL says (without credentials), so that it outlives a reload of the policy.
// Thread-safe.
class Upstreams {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Upstreams(std::function<Clock::time_point()> now = Clock::now) : now_(std::move(now)) {}

  // Indexes of proxy.urls in the order in which they are to be tried: those that have not failed
  // lately first, in the policy's order; then the others, the longest ago first.
  [[nodiscard]] std::vector<size_t> Order(const policy::Proxy& proxy);
  void Failed(const policy::ProxyUrl& url);  // for 1 second, twice as long each time, at most 60
  void Worked(const policy::ProxyUrl& url);

  // Whether the proxy at that URL answers UDP ASSOCIATE; unknown before the first time.
  enum class Udp : uint8_t { kUnknown, kYes, kNo };
  [[nodiscard]] Udp udp(const policy::ProxyUrl& url);
  void SetUdp(const policy::ProxyUrl& url, Udp udp);  // kNo is forgotten after a minute

  // What connections to proxies share. Thread-safe too.
  [[nodiscard]] HostResolver& hosts() { return hosts_; }
  [[nodiscard]] TlsContexts& tls() { return tls_; }

 private:
  struct State {
    Clock::time_point down_until{};
    std::chrono::seconds backoff{0};
    Udp udp = Udp::kUnknown;
    Clock::time_point udp_until{};
  };
  static constexpr size_t kMaxUrls = 4096;

  [[nodiscard]] State* Find(const policy::ProxyUrl& url);
  [[nodiscard]] State& FindOrAdd(const policy::ProxyUrl& url);

  const std::function<Clock::time_point()> now_;
  std::mutex mutex_;
  std::map<std::string, State> states_;
  HostResolver hosts_;
  TlsContexts tls_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_UPSTREAMS_H_
