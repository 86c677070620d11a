// connect(2) of a socket whose connection a worker brings about, where the caller waits for it.
#ifndef OAKUM_AGENT_PROXY_CARRIED_OPERATION_H_
#define OAKUM_AGENT_PROXY_CARRIED_OPERATION_H_

#include <memory>
#include <optional>

#include "agent/caller/sockaddr.h"
#include "agent/calls/operation.h"
#include "agent/proxy/pending_connect.h"
#include "base/unique_fd.h"

namespace oakum::agent {

[[nodiscard]] bool IsNonBlocking(int socket_fd);

// A connect(2) that goes on in the kernel where it would wait: 0 or an errno value. Without
// io_uring (null), by the one call that does so on a blocking socket: sendto(2) with MSG_FASTOPEN
// and nothing to send (tcp_sendmsg_fastopen(), net/ipv4/tcp.c).
[[nodiscard]] int ConnectWithoutWaiting(int socket_fd, const SockaddrCopy& address,
                                        UringCalls* uring);

// Shared by all who wait for it, so that a caller who was interrupted and calls again waits on
// (connect(2), EINTR).
class CarriedOperation final : public Operation {
 public:
  CarriedOperation(UniqueFd socket, std::shared_ptr<PendingConnect> pending);
  ~CarriedOperation() override;
  CarriedOperation(const CarriedOperation&) = delete;
  CarriedOperation& operator=(const CarriedOperation&) = delete;

  std::optional<Answer> Step(const Stepper& stepper) override;
  [[nodiscard]] Wait wait() const override;
  [[nodiscard]] int socket_fd() const override { return socket_.get(); }
  [[nodiscard]] std::optional<Clock::duration> timeout() const override;
  Answer TimedOut() override;

 private:
  const UniqueFd socket_;
  const std::shared_ptr<PendingConnect> pending_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_CARRIED_OPERATION_H_
