// One direction of a relay.
#ifndef OAKUM_AGENT_PROXY_PUMP_H_
#define OAKUM_AGENT_PROXY_PUMP_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "agent/proxy/dial.h"
#include "agent/proxy/pipe_pool.h"

namespace oakum::agent {

// Moves bytes from one non-blocking stream socket to another until the end of the first, which it
// passes on (shutdown(2), SHUT_WR). Holds memory only while bytes are under way.
class Pump {
 public:
  enum class Status : uint8_t {
    kWaiting,  // see from_events() and to_events()
    kMore,     // its turn is over, and there may be more at once
    kEnded,    // the end has been passed on
    kFailed,   // one of the two is gone
  };

  // Is shown everything that is read, before it is sent.
  using Tap = std::function<void(std::string_view)>;

  // By splice(2) if neither side has TLS and there is no tap. Sends `early` first (at most
  // kMaxEarly bytes). All outlive it.
  [[nodiscard]] static std::unique_ptr<Pump> Create(ProxyStream& from, ProxyStream& to,
                                                    PipePool& pipes, std::string early, Tap tap);
  virtual ~Pump() = default;

  // Goes on, with some kTurn bytes at most, so that one fast connection does not keep the others of
  // its thread waiting.
  [[nodiscard]] virtual Status Run() = 0;
  // EPOLLIN, EPOLLOUT or 0: what each side is waited for.
  [[nodiscard]] virtual uint32_t from_events() const = 0;
  [[nodiscard]] virtual uint32_t to_events() const = 0;

  static constexpr size_t kTurn = size_t{1} << 20;
  static constexpr size_t kMaxEarly = size_t{64} * 1024;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_PUMP_H_
