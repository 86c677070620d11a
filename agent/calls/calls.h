// From a notification to its answer, or to an operation that will have one later.
#ifndef OAKUM_AGENT_CALLS_CALLS_H_
#define OAKUM_AGENT_CALLS_CALLS_H_

#include <memory>
#include <optional>

#include "agent/caller/sockaddr.h"
#include "agent/caller/task.h"
#include "agent/calls/known_destinations.h"
#include "agent/calls/operation.h"
#include "agent/proxy/held_spare.h"
#include "agent/session/session_core.h"

namespace oakum::agent {

// A socket of the container, duplicated: whatever the container does with its number, this is the
// socket that is decided on and that the call is performed on.
struct PinnedSocket : SocketKind {
  UniqueFd fd;
  uint64_t cookie = 0;  // SocketCookie()

  [[nodiscard]] policy::Transport transport() const;
};

// A descriptor of the caller's that has been pinned ahead of what the call is, and its number.
struct PinnedAhead {
  int number = -1;
  PinnedSocket socket;  // none once it has been taken
};

// What a session thread has at hand.
struct CallContext {
  SessionCore& core;
  DescriptorSource& descriptors;
  const EventSource& source;           // the call's: never asked for anew before its answer
  UringCalls* uring;                   // null: operations that need it go to a thread
  HeldSpare* spare = nullptr;          // null: there is none
  KnownDestinations* known = nullptr;  // of the source's policy; null: nothing is remembered
  PinnedAhead* ahead = nullptr;        // null: there is none

  // What connections and datagrams of the container are carried with.
  [[nodiscard]] const std::shared_ptr<ContainerCarrier>& carried() const {
    return core.container()->carried();
  }
  // Null when the session's policy is gone, which denies.
  [[nodiscard]] const policy::Policy* policy() const { return source.policy.get(); }
  [[nodiscard]] bool Audits() const {
    return source.policy != nullptr && source.policy->mode() == policy::Mode::kAudit;
  }
};

// Exactly one of the two is set. `socket` is kept until the answer has been delivered.
struct Outcome {
  std::optional<Answer> answer;
  std::unique_ptr<Operation> operation;
  UniqueFd socket;
  uint64_t cookie = 0;  // SocketCookie() of `socket`; 0: has not been asked for

  static Outcome Of(Answer answer, UniqueFd socket = {}, uint64_t cookie = 0) {
    Outcome outcome;
    outcome.answer.emplace(std::move(answer));
    outcome.socket = std::move(socket);
    outcome.cookie = cookie;
    return outcome;
  }
  static Outcome Of(std::unique_ptr<Operation> operation) {
    Outcome outcome;
    outcome.operation = std::move(operation);
    return outcome;
  }
};

// Whether such a socket (socket(2)) carries nothing past the guarded calls. The plan lets these
// through in the filter; they come to the agent when it could not tell (a 64-bit register with a
// dirty upper half) or did not see the arguments (socketcall(2)).
[[nodiscard]] bool IsPlainSocket(int domain, int type, int protocol);

// Has the next agent know that from here on `act` may have been done to `socket`, which is the
// caller's descriptor `number`.
void NoteBegin(const GuardedCall& call, JournalAct act, int number, const PinnedSocket& socket);

// Pins descriptor `fd` of the caller, or takes what was pinned ahead of it. Returns 0 or an errno
// value; EBADF and ENOTSOCK as natively.
[[nodiscard]] int Pin(const CallContext& context, pid_t tid, int fd, PinnedSocket& out);

// The arguments of one call, wherever they came from: registers, or the array that socketcall(2)
// points to.
using Arguments = const uint64_t (&)[6];

[[nodiscard]] Outcome HandleConnect(const CallContext& context, const GuardedCall& call,
                                    Arguments args);
[[nodiscard]] Outcome HandleSendto(const CallContext& context, const GuardedCall& call,
                                   Arguments args);
[[nodiscard]] Outcome HandleSendmsg(const CallContext& context, const GuardedCall& call,
                                    Arguments args);
[[nodiscard]] Outcome HandleSendmmsg(const CallContext& context, const GuardedCall& call,
                                     Arguments args);
// Nothing is decided here: only sockets that are carried get their answer from the agent, with the
// sender's address translated. `wide_time`: the timespec of a 32-bit program has 64-bit fields.
[[nodiscard]] Outcome HandleRecvfrom(const CallContext& context, const GuardedCall& call,
                                     Arguments args);
[[nodiscard]] Outcome HandleRecvmsg(const CallContext& context, const GuardedCall& call,
                                    Arguments args);
[[nodiscard]] Outcome HandleRecvmmsg(const CallContext& context, const GuardedCall& call,
                                     Arguments args, bool wide_time);
[[nodiscard]] Outcome HandleBind(const CallContext& context, const GuardedCall& call,
                                 Arguments args);
[[nodiscard]] Outcome HandleListen(const CallContext& context, const GuardedCall& call,
                                   Arguments args);
// accept(2) has no flags: 0.
[[nodiscard]] Outcome HandleAccept(const CallContext& context, const GuardedCall& call,
                                   Arguments args, int flags);
// Writes whose a connection is where accept(2) was told to. Returns 0 or an errno value; nothing
// when nobody waits for the call any more: then nothing was written.
[[nodiscard]] std::optional<int> WritePeer(const SessionCore& core, const GuardedCall& call,
                                           const PeerName& peer);
[[nodiscard]] Outcome HandleGetpeername(const CallContext& context, const GuardedCall& call,
                                        Arguments args);
[[nodiscard]] Outcome HandleSocket(const CallContext& context, const GuardedCall& call,
                                   Arguments args);
// The answer to socket(2) for any socket that is not plain: an event, and an error unless the
// policy audits.
[[nodiscard]] Outcome RefuseSocket(const CallContext& context, const GuardedCall& call, int domain,
                                   int type, int protocol);
[[nodiscard]] Outcome HandleSetsockopt(const CallContext& context, const GuardedCall& call,
                                       Arguments args);
// The same where the arguments were in memory: performed here, whatever the option.
[[nodiscard]] Outcome PerformSetsockopt(const CallContext& context, const GuardedCall& call,
                                        Arguments args);
[[nodiscard]] Outcome HandleSocketcall(const CallContext& context, const GuardedCall& call,
                                       Arguments args);
[[nodiscard]] Outcome HandleIoUring(const CallContext& context, const GuardedCall& call);

// Ends a connection attempt of a blocking TCP socket that has failed, as a waiting connect(2) does
// (__inet_stream_connect()): takes the error, which it returns, and leaves the socket ready for
// another attempt.
[[nodiscard]] int EndFailedConnect(int socket_fd);

// Any of the above, by what the call is.
[[nodiscard]] Outcome Handle(const CallContext& context, const GuardedCall& call);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLS_CALLS_H_
