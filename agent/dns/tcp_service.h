// DNS over TCP as a server (RFC 1035 section 4.2.2, RFC 7766).
#ifndef OAKUM_AGENT_DNS_TCP_SERVICE_H_
#define OAKUM_AGENT_DNS_TCP_SERVICE_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_set>

#include "agent/server/event_loop.h"
#include "base/unique_fd.h"

namespace oakum::agent::dns {

// Streams of one container. A client that sends no DNS, says nothing, or does not read its answers
// is closed; none delays another.
class TcpService {
 public:
  // An empty answer closes the stream: what came was no DNS.
  using Done = std::function<void(const std::string& answer)>;
  // `done` is called once, at any time, from inside too; for streams that are gone it does nothing.
  using Handler = std::function<void(std::string_view query, Done done)>;

  static constexpr size_t kMaxStreams = 256;               // those beyond are closed
  static constexpr size_t kMaxPending = 64;                // queries of a stream without an answer
  static constexpr size_t kMaxOutput = size_t{256} << 10;  // answers that a client has not read
  static constexpr std::chrono::seconds kIdle{10};         // without progress

  explicit TcpService(EventLoop& loop, EventLoop::Clock::duration idle = kIdle)
      : loop_(loop), idle_(idle) {}
  ~TcpService();
  TcpService(const TcpService&) = delete;
  TcpService& operator=(const TcpService&) = delete;

  void Serve(UniqueFd stream, Handler handler);
  [[nodiscard]] size_t streams() const { return streams_.size(); }

 private:
  class Stream;

  EventLoop& loop_;
  const EventLoop::Clock::duration idle_;
  std::unordered_set<std::shared_ptr<Stream>> streams_;
};

}  // namespace oakum::agent::dns

#endif  // OAKUM_AGENT_DNS_TCP_SERVICE_H_
