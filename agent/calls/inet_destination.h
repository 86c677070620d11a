// Internet destinations of connect(2) and of messages: decided, and kept to what was decided.
#ifndef OAKUM_AGENT_CALLS_INET_DESTINATION_H_
#define OAKUM_AGENT_CALLS_INET_DESTINATION_H_

#include <optional>

#include "agent/caller/sockaddr.h"
#include "agent/calls/calls.h"

namespace oakum::agent {

// Decides whether `socket` may connect or send (`operation`) to `destination`, which was read from
// `address`. Where the socket's own state says what an address means, it is taken into account, and
// `address` is rewritten so that it cannot mean anything else a moment later:
// - 0.0.0.0 is the address that the socket is bound to, and 127.0.0.1 only where there is none
//   (ip_route_output_key_hash_rcu(), net/ipv4/route.c).
// - Loopback leaves the machine on a socket that is bound to a network interface
//   (socket(7), SO_BINDTODEVICE): refused unless the policy allows what no rule names.
// `judged` is filled in when the answer is kCarry; what is carried on a socket of the container's
// goes by way of loopback, so the last point holds for it as well.
[[nodiscard]] Ruling JudgeInet(const CallContext& context, const GuardedCall& call,
                               policy::Operation operation, const PinnedSocket& socket,
                               SockaddrCopy& address, Destination& destination, Judged& judged);

// A message that may go where it is meant to, with what has been decided.
struct AllowedSend {
  policy::InetRequest request;  // with the names of `judged`
  Judged judged;
};
// The part of JudgeInet() that changes nothing and tells nobody: set where a message to
// `destination` may be sent just as it is. Where not, the rest of it has to say why. `bound`:
// whether the socket is bound to another interface than loopback, once that had to be asked.
[[nodiscard]] std::optional<AllowedSend> AllowsAsItIs(const CallContext& context,
                                                      const GuardedCall& call,
                                                      const PinnedSocket& socket,
                                                      const Destination& destination,
                                                      std::optional<bool>& bound);

// Gives a datagram socket its port now, as the connect or the message that follows would: what has
// a port cannot be bound to an interface any more between the decision and the act (bind(2) to a
// link-local IPv6 address with a scope id does that).
void TakePort(const PinnedSocket& socket);

// Whether a message to `destination` has to be kept on the loopback interface by a control message
// of its own, because another thread could still bind its socket to another interface: ::1 from an
// IPv6 datagram socket. (bind(2) to a link-local address with a scope id does that; on IPv4 only
// options do, which are decided on.)
[[nodiscard]] bool NeedsLoopbackPin(const CallContext& context, const PinnedSocket& socket,
                                    const Destination& destination);

// Whether the policy denies what no rule names: then loopback must stay loopback.
[[nodiscard]] bool DeniesByDefault(const CallContext& context);

// 127.0.0.0/8, ::1 and what means the same.
[[nodiscard]] bool IsLoopback(const policy::IpAddress& ip);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLS_INET_DESTINATION_H_
