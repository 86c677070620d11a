// One handshake on a socket of the container's: what goes on while its caller waits, or has left.
#ifndef OAKUM_AGENT_PROXY_DIRECT_HANDSHAKE_H_
#define OAKUM_AGENT_PROXY_DIRECT_HANDSHAKE_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/proxy/direct_connect.h"
#include "agent/proxy/handshake.h"

namespace oakum::agent {

// Thread-safe: its operation, operations that have joined and a thread of its own may all drive it.
// Reads never go beyond the handshake, and nothing ever waits for the peer: the container shares
// O_NONBLOCK with us and may have done anything to the socket. It can have its lock held, though,
// so whatever is not said to be free of it belongs on threads that hold up nobody else.
class DirectHandshake {
 public:
  DirectHandshake(Upstreams& upstreams, UniqueFd socket, int domain, uint64_t cookie,
                  DirectRequest request);

  enum class Begun : uint8_t {
    kUnderWay,
    kOver,      // result() says how
    kFallback,  // as in DirectStart
    kNotOurs,   // the socket is connected or on its way already: result() says so, no `ended`
  };
  [[nodiscard]] Begun Begin(UringCalls& uring);
  // Goes on as far as it can: 0 or the errno value of connect(2) when it is over. `uring` null: one
  // is made where it is needed.
  [[nodiscard]] std::optional<int> Step(UringCalls* uring);
  // Gives up, with the socket reset.
  void GiveUp();

  [[nodiscard]] bool over() const { return over_.load(std::memory_order_acquire); }
  [[nodiscard]] std::optional<int> result() const;
  [[nodiscard]] Wait wait() const;  // never waits itself
  [[nodiscard]] uint64_t cookie() const { return cookie_; }
  [[nodiscard]] const void* owner() const { return owner_; }
  [[nodiscard]] bool LeadsTo(const ProxyTarget& target) const;
  // Invalid when it is over.
  [[nodiscard]] UniqueFd DuplicateSocket() const;
  // Only after kFallback.
  [[nodiscard]] DirectRequest TakeRequest();
  // Whoever sets it first has to see that it goes on without a caller.
  [[nodiscard]] bool SetLeft() { return !left_.exchange(true); }
  [[nodiscard]] bool left() const { return left_.load(); }

 private:
  enum class Phase : uint8_t { kConnecting, kSpeaking };
  enum class Progress : uint8_t { kGoesOn, kWaits, kOver };

  [[nodiscard]] const policy::ProxyUrl& url() const { return request_.proxy->urls[order_[at_]]; }
  [[nodiscard]] std::optional<int> StepLocked(UringCalls* uring);
  // connect(2) to the URL: 0, EINPROGRESS or an errno value.
  [[nodiscard]] int Connect(UringCalls* uring);
  [[nodiscard]] Progress GoOnConnecting(UringCalls* uring);
  [[nodiscard]] Progress GoOnSpeaking(UringCalls* uring);
  [[nodiscard]] Progress Listen(UringCalls* uring);
  [[nodiscard]] std::unique_ptr<Handshake> Converse() const;
  [[nodiscard]] Progress Started(UringCalls* uring, int error);
  [[nodiscard]] Progress NotConnected(UringCalls* uring, int error);
  [[nodiscard]] Progress Waits(uint32_t events);
  [[nodiscard]] Progress Interrupted(UringCalls* uring, uint32_t events);
  void Speak();
  [[nodiscard]] bool IsAtProxy() const;
  [[nodiscard]] Progress Failed(UringCalls* uring, ProxyFailure failure, bool down);
  [[nodiscard]] Progress TimedOut(UringCalls* uring);
  void End(const std::optional<ProxyFailure>& failure, int error);
  // Leaves a socket that can be connected again and has no error pending.
  void ResetSocket();

  Upstreams& upstreams_;
  const int domain_;
  const uint64_t cookie_;
  const void* const owner_;
  const ProxyTarget target_;
  std::atomic<bool> over_{false};
  std::atomic<bool> left_{false};
  mutable std::mutex mutex_;
  UniqueFd socket_;
  DirectRequest request_;
  std::vector<size_t> order_;
  size_t at_ = 0;
  Phase phase_ = Phase::kConnecting;
  std::unique_ptr<Handshake> handshake_;
  // Set with the lock held.
  std::atomic<Clock::time_point> deadline_{Clock::time_point()};
  std::atomic<uint32_t> events_{0};
  std::string texts_;
  std::optional<int> result_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_DIRECT_HANDSHAKE_H_
