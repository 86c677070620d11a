// Queries in datagrams, passed on to the server that was asked.
#ifndef OAKUM_AGENT_DNS_UDP_FORWARDER_H_
#define OAKUM_AGENT_DNS_UDP_FORWARDER_H_

#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "agent/proxy/dial.h"
#include "agent/proxy/relay_slots.h"
#include "agent/server/event_loop.h"
#include "base/unique_fd.h"
#include "policy/address.h"

namespace oakum::agent::dns {

// Each query has a socket of its own, connected to the server: the kernel gives it a random port
// and drops what comes from anywhere else (udp(7)); the id is random too (RFC 5452). Only an answer
// with this id to this question counts; the socket goes with it.
class UdpForwarder {
 public:
  // The answer with the query's own id, or what the network said (ICMP).
  using Done = std::function<void(std::expected<std::string, ProxyFailure>)>;

  static constexpr size_t kMaxQueries = 512;  // each has a descriptor
  static constexpr size_t kMaxStrays = 1000;  // datagrams that are no answer; then it is given up

  // `take_slot`: for each query; nothing: there are too many.
  explicit UdpForwarder(EventLoop& loop, std::function<std::optional<RelaySlot>()> take_slot = {})
      : loop_(loop), take_slot_(std::move(take_slot)) {}
  ~UdpForwarder();
  UdpForwarder(const UdpForwarder&) = delete;
  UdpForwarder& operator=(const UdpForwarder&) = delete;

  // Returns a number for Forget, or 0 when there are too many. `query` is one that ReadQuery has
  // read; `done` is called at most once, never from inside.
  [[nodiscard]] uint64_t Ask(std::string query, const policy::Endpoint& server,
                             const std::function<UniqueFd(int domain, int type)>& make_socket,
                             Done done);
  // Gives up waiting; nothing happens when that is over already.
  void Forget(uint64_t number);

 private:
  struct Asked {
    RelaySlot slot;
    UniqueFd socket;
    std::string query;
    uint16_t id = 0;
    std::string server;
    Done done;
    size_t strays = 0;
    EventLoop::TimerId timer = EventLoop::TimerId::kNone;  // a failure that is to be told
  };

  void Receive(uint64_t number);
  void Finish(uint64_t number, std::expected<std::string, ProxyFailure> answer);

  EventLoop& loop_;
  const std::function<std::optional<RelaySlot>()> take_slot_;
  uint64_t last_ = 0;
  std::unordered_map<uint64_t, Asked> asked_;
};

}  // namespace oakum::agent::dns

#endif  // OAKUM_AGENT_DNS_UDP_FORWARDER_H_
