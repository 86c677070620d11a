// What sendto(2), sendmsg(2) and sendmmsg(2) have in common: a message up to its payload.
#ifndef OAKUM_AGENT_CALLS_SEND_CALL_H_
#define OAKUM_AGENT_CALLS_SEND_CALL_H_

#include <cstdint>

#include "agent/caller/message.h"
#include "agent/calls/calls.h"
#include "agent/calls/send_operation.h"

namespace oakum::agent {

// Where sendmsg(2) and sendmmsg(2) begin: `socket` is that of the caller's descriptor `fd`, after
// which the call is named. 0 or the errno of the call.
[[nodiscard]] int TakeSender(const CallContext& context, const GuardedCall& call, uint64_t fd,
                             int flags, PinnedSocket& socket);

// What became of one message before it is sent.
struct Prepared {
  enum class Kind : uint8_t { kSend, kPass, kError, kGone } kind = Kind::kError;
  int error = 0;
  bool unreached = false;        // kError: a unix name leads nowhere
  bool loopback = false;         // an internet destination on this machine
  bool pin_to_loopback = false;  // ... that only a control message keeps there
  bool carried = false;          // ... that is a gate of the agent's
  OutgoingMessage message;

  static Prepared Error(int error) {
    Prepared prepared;
    prepared.error = error;
    return prepared;
  }
  static Prepared Of(Kind kind) {
    Prepared prepared;
    prepared.kind = kind;
    return prepared;
  }
};

// Decides where a message goes. kSend with `message.name` set when it may go there.
[[nodiscard]] Prepared JudgeDestination(const CallContext& context, const GuardedCall& call,
                                        const PinnedSocket& socket, SockaddrCopy name);
// Everything up to the payload. `header` has been copied.
[[nodiscard]] Prepared Prepare(const CallContext& context, const GuardedCall& call,
                               const PinnedSocket& socket, MessageHeader header, int flags);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLS_SEND_CALL_H_
