// Connections to proxies that have been greeted before anybody needs them.
#ifndef OAKUM_AGENT_PROXY_READY_PROXIES_H_
#define OAKUM_AGENT_PROXY_READY_PROXIES_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "agent/proxy/dial.h"
#include "agent/proxy/relay_slots.h"
#include "policy/proxy.h"

namespace oakum::agent {

// Of one container: what it used for one connection is never another container's, and one with
// credentials serves only those who have the same. Whoever connects often finds the proxy connected
// to, greeted and authenticated, which saves two round trips. Thread-safe.
class ReadyProxies {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::seconds kIdle{2};  // then a connection is closed unused
  // From so many connections within kBurst on, another one is made ready each time.
  static constexpr size_t kOften = 3;
  static constexpr std::chrono::seconds kBurst{1};
  static constexpr size_t kMaxReady = 8;
  static constexpr size_t kMaxUses = 64;  // the one not seen for longest goes

  ReadyProxies();
  ~ReadyProxies();
  ReadyProxies(const ReadyProxies&) = delete;
  ReadyProxies& operator=(const ReadyProxies&) = delete;

  // The greeted connection for this URL, with these credentials, from this network namespace.
  // Nothing when there is none that is still open.
  [[nodiscard]] std::optional<ProxyStream> Take(const policy::ProxyUrl& url,
                                                const std::optional<Credentials>& credentials,
                                                uint64_t network);
  // Takes note of a dial. A request for the connection that is to be made ready for the next one,
  // if there should be one.
  [[nodiscard]] std::optional<DialRequest> Note(const DialRequest& request, Clock::time_point now);
  // `stream`: what such a request has led to. Whether DropOld is to be called in kIdle: nobody has
  // been told to yet.
  [[nodiscard]] bool Put(const DialRequest& request, ProxyStream stream, RelaySlot slot,
                         Clock::time_point now);
  // Around the making of one; false: as many are there or being made as there may be.
  [[nodiscard]] bool BeginMaking();
  void EndMaking();
  // Closes what nobody wanted. Whether to call it again in kIdle.
  [[nodiscard]] bool DropOld(Clock::time_point now);
  // Closes all, and keeps none from now on.
  void Close();

 private:
  // What must be the same.
  struct Key {
    std::shared_ptr<const void> keep;  // the policy, so that nothing else gets its address
    const policy::Proxy* proxy = nullptr;
    std::optional<Credentials> credentials;
    uint64_t network = 0;

    [[nodiscard]] bool Fits(const DialRequest& request) const;
  };
  struct Use {
    Key key;
    Clock::time_point since;
    size_t count = 0;
  };
  struct Ready {
    Key key;
    ProxyStream stream;
    RelaySlot slot;
    Clock::time_point until;
  };

  std::mutex mutex_;
  bool closed_ = false;
  size_t making_ = 0;
  bool will_drop_ = false;  // somebody calls DropOld
  std::list<Use> uses_;     // the one seen last first
  std::vector<Ready> ready_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_READY_PROXIES_H_
