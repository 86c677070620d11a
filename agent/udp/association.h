// One SOCKS5 UDP association: what one socket of a container sends by way of a proxy (RFC 1928
// section 7).
#ifndef OAKUM_AGENT_UDP_ASSOCIATION_H_
#define OAKUM_AGENT_UDP_ASSOCIATION_H_

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/proxy/dial.h"
#include "agent/server/event_loop.h"
#include "agent/udp/socks_datagram.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Everything happens on the loop's thread. The association lasts as long as its control connection.
class Association {
 public:
  using Clock = std::chrono::steady_clock;

  struct Options {
    EventLoop* loop = nullptr;
    Upstreams* upstreams = nullptr;  // both outlive the association
    DialRequest request;             // its command is kUdpAssociate
    // Makes a non-blocking datagram socket where the control connection's is made.
    std::function<UniqueFd(int domain)> make_socket;
    std::function<void(const RelayedDatagram&)> deliver;
    // It is over: what has gone wrong, or nothing when the proxy has closed the connection. May
    // destroy the association.
    std::function<void(std::optional<ProxyFailure>)> ended;
  };

  // Begins to connect. `ended` is not called from in here.
  [[nodiscard]] static std::unique_ptr<Association> Start(Options options);
  ~Association();
  Association(const Association&) = delete;
  Association& operator=(const Association&) = delete;

  // Sends one datagram, as far as there is room; while the association is being made it waits, as
  // long as there are not too many.
  void Send(const ProxyTarget& destination, std::string_view data);
  [[nodiscard]] Clock::time_point last_used() const { return last_used_; }

 private:
  static constexpr size_t kMaxWaiting = 32;
  static constexpr size_t kMaxWaitingBytes = size_t{256} * 1024;
  static constexpr int kMaxPerTurn = 32;  // others on the thread have their turn, too

  explicit Association(Options options) : options_(std::move(options)) {}
  void Connected(DialResult result);
  void ControlReady();
  void Receive();
  void End(std::optional<ProxyFailure> failure);

  Options options_;
  std::unique_ptr<Dial> dial_;
  UniqueFd control_;
  UniqueFd relay_;  // connected to the proxy's relay: nobody else can reply
  std::deque<std::string> waiting_;
  size_t waiting_bytes_ = 0;
  Clock::time_point last_used_ = Clock::now();
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_UDP_ASSOCIATION_H_
