#include "agent/proxy/upstreams.h"

#include <algorithm>
#include <utility>

#include "agent/proxy/handshake.h"

namespace oakum::agent {

namespace {

constexpr std::chrono::seconds kFirstBackoff{1};
constexpr std::chrono::seconds kLongestBackoff{60};
constexpr std::chrono::seconds kUdpRefusedFor{60};

}  // namespace

Upstreams::State* Upstreams::Find(const policy::ProxyUrl& url) {
  if (states_.empty()) {
    return nullptr;
  }
  const auto found = states_.find(ProxyLabel(url));
  return found == states_.end() ? nullptr : &found->second;
}

Upstreams::State& Upstreams::FindOrAdd(const policy::ProxyUrl& url) {
  // Policies that are reloaded with ever new URLs: what is forgotten is only asked again.
  if (states_.size() >= kMaxUrls) {
    states_.clear();
  }
  return states_[ProxyLabel(url)];
}

std::vector<size_t> Upstreams::Order(const policy::Proxy& proxy) {
  const size_t count = proxy.urls.size();
  std::vector<size_t> order(count);
  for (size_t i = 0; i < count; ++i) {
    order[i] = i;
  }
  if (count < 2) {
    return order;
  }
  const Clock::time_point now = now_();
  std::vector<Clock::time_point> down_until(count);
  {
    const std::lock_guard lock(mutex_);
    for (size_t i = 0; i < count; ++i) {
      const State* state = Find(proxy.urls[i]);
      if (state != nullptr && state->down_until > now) {
        down_until[i] = state->down_until;
      }
    }
  }
  // What is to come back first has failed the longest ago, or the fewest times.
  std::ranges::stable_sort(order, {}, [&](size_t i) { return down_until[i]; });
  return order;
}

void Upstreams::Failed(const policy::ProxyUrl& url) {
  const std::lock_guard lock(mutex_);
  State& state = FindOrAdd(url);
  const Clock::time_point now = now_();
  // Connections that were under way together fail together: that is one failure.
  if (state.down_until > now) {
    return;
  }
  state.backoff = std::clamp(state.backoff * 2, kFirstBackoff, kLongestBackoff);
  state.down_until = now + state.backoff;
}

void Upstreams::Worked(const policy::ProxyUrl& url) {
  const std::lock_guard lock(mutex_);
  if (State* state = Find(url); state != nullptr) {
    state->backoff = {};
    state->down_until = {};
  }
}

Upstreams::Udp Upstreams::udp(const policy::ProxyUrl& url) {
  const std::lock_guard lock(mutex_);
  const State* state = Find(url);
  if (state == nullptr || (state->udp == Udp::kNo && state->udp_until <= now_())) {
    return Udp::kUnknown;
  }
  return state->udp;
}

void Upstreams::SetUdp(const policy::ProxyUrl& url, Udp udp) {
  const std::lock_guard lock(mutex_);
  State& state = FindOrAdd(url);
  state.udp = udp;
  state.udp_until = now_() + kUdpRefusedFor;
}

}  // namespace oakum::agent
