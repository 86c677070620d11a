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
  // One that goes on where another, whose own pipe that was, has stopped: in another process, too.
  [[nodiscard]] static std::unique_ptr<Pump> GoOn(ProxyStream& from, ProxyStream& to,
                                                  PipePool& pipes, Pipe own);
  virtual ~Pump() = default;

  enum class Owns : uint8_t { kPipe, kNotNow, kNever };
  // From now on each byte is in `from`, in the pipe that pipe() has, or in `to`: in one of them and
  // only there, whenever this process is killed, and the order is that of the three. But for urgent
  // data, a byte of which can then be twice in what arrives. kNotNow: no descriptor to be had, or
  // `early` is still to be sent. kNever: bytes are looked at, or changed (a tap, TLS).
  [[nodiscard]] virtual Owns OwnPipe() { return Owns::kNever; }
  // Null as long as it has none of its own.
  [[nodiscard]] virtual const Pipe* pipe() const { return nullptr; }

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
