// Two connected streams, and what goes between them.
#ifndef OAKUM_AGENT_PROXY_RELAY_H_
#define OAKUM_AGENT_PROXY_RELAY_H_

#include <memory>
#include <string>

#include "agent/proxy/dial.h"
#include "agent/proxy/pump.h"
#include "agent/proxy/relay_slots.h"
#include "agent/proxy/worker.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Passes on what comes, ends (half-closes) and resets, each way on its own. Lives on one worker,
// which keeps it until both ways have ended.
class Relay : public std::enable_shared_from_this<Relay> {
 public:
  // On the thread of `worker`. `slot` is given back at its end. `near` is the container's side,
  // `far` the proxy's, both prepared (PrepareRelayed); `early` is what has been read from `near`
  // already and is still to be passed on (at most Pump::kMaxEarly). `tap` is shown what comes from
  // `near`.
  static void Start(Worker& worker, RelaySlot slot, UniqueFd near, ProxyStream far,
                    std::string early = {}, Pump::Tap tap = {});
  Relay(Worker& worker, RelaySlot slot, UniqueFd near, ProxyStream far, std::string early,
        Pump::Tap tap);
  ~Relay();
  Relay(const Relay&) = delete;
  Relay& operator=(const Relay&) = delete;

 private:
  struct Side {
    ProxyStream stream;
    uint32_t watched = 0;  // 0: not in the loop
  };
  struct Way {
    std::unique_ptr<Pump> pump;
    bool ended = false;
    bool more = false;
  };

  // One turn of the ways that `events` of `side` let go on.
  void Ready(const Side& side, uint32_t events);
  void Turn(bool out, bool in);
  [[nodiscard]] bool Advance(Way& way);
  void Watch();
  void WatchSide(Side& side, uint32_t events);
  void End();
  void Reset();

  Worker& worker_;
  RelaySlot slot_;
  Side near_;
  Side far_;
  Way out_;  // near to far
  Way in_;   // far to near
  EventLoop::TimerId again_ = EventLoop::TimerId::kNone;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_RELAY_H_
