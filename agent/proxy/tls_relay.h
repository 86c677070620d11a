// A relay in the process that speaks TLS, as its agent has it.
#ifndef OAKUM_AGENT_PROXY_TLS_RELAY_H_
#define OAKUM_AGENT_PROXY_TLS_RELAY_H_

#include <cstdint>
#include <memory>

#include "agent/proxy/kept_connection.h"
#include "agent/proxy/nursery.h"
#include "agent/proxy/relay.h"
#include "agent/proxy/relay_slots.h"
#include "agent/proxy/worker.h"
#include "agent/server/event_loop.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// The bytes go by the agent: it has the container's socket, and an end of the pair on which it
// hears how the relay ends (agent/proxy/tls_process.h). One that is kept outlives the agent; any
// other is reset with it, as it is where that process ends. Lives on one worker.
class TlsRelay : public std::enable_shared_from_this<TlsRelay>, public Keepable {
 public:
  // On the thread of `worker`. `relay` has no pipes; it is kept already or will be, and may have
  // been handed over already.
  static void GoOn(Worker& worker, KeptRelay relay);
  // As Relay::KeepAhead.
  [[nodiscard]] static bool KeepAhead(KeptRelay& relay, int near_fd, int pair_fd);
  // Whether what was kept is one.
  [[nodiscard]] static bool IsOne(const KeptRelay& relay);

  TlsRelay(Worker& worker, KeptRelay relay);
  ~TlsRelay() override;
  TlsRelay(const TlsRelay&) = delete;
  TlsRelay& operator=(const TlsRelay&) = delete;

  [[nodiscard]] bool KeepNow() override;

 private:
  void HandOver();
  void Hear();
  void End(bool in_order);

  Worker& worker_;
  RelaySlot slot_;
  UniqueFd near_;
  UniqueFd pair_;
  RelayOwner owner_;
  KeptConnection kept_;
  bool watching_ = false;
  int tries_ = 0;
  EventLoop::TimerId again_ = EventLoop::TimerId::kNone;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_TLS_RELAY_H_
