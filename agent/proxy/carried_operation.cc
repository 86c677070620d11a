#include "agent/proxy/carried_operation.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "agent/proxy/tcp_socket.h"

namespace oakum::agent {

bool IsNonBlocking(int socket_fd) { return (fcntl(socket_fd, F_GETFL) & O_NONBLOCK) != 0; }

int ConnectWithoutWaiting(int socket_fd, const SockaddrCopy& address, UringCalls* uring) {
  if (IsNonBlocking(socket_fd)) {
    return connect(socket_fd, address.get(), address.length) == 0 ? 0 : errno;
  }
  if (uring != nullptr) {
    return uring->Connect(socket_fd, address.get(), address.length);
  }
  return sendto(socket_fd, nullptr, 0, MSG_FASTOPEN | MSG_DONTWAIT | MSG_NOSIGNAL, address.get(),
                address.length) == 0
             ? 0
             : errno;
}

CarriedOperation::CarriedOperation(UniqueFd socket, std::shared_ptr<PendingConnect> pending)
    : socket_(std::move(socket)), pending_(std::move(pending)) {
  pending_->Enter(socket_.get());
}

CarriedOperation::~CarriedOperation() { pending_->Leave(socket_.get()); }

std::optional<Answer> CarriedOperation::Step(const Stepper& stepper) {
  const int failed = pending_->error();
  switch (TcpState(socket_.get()).value_or(TCP_CLOSE)) {
    case TCP_SYN_SENT:
    case TCP_SYN_RECV:
      return std::nullopt;  // once it has failed it leaves that state
    case TCP_CLOSE: {
      // Takes the socket's own error, as a connect(2) that waits does.
      const int error = TakeSocketError(socket_.get());
      return Answer::Performed(0, failed != 0 ? failed : error != 0 ? error : ECONNABORTED);
    }
    default:
      break;
  }
  // The socket has to be told that it is connected; it is, so this never waits. Reset by another
  // thread meanwhile, it would be to a port where nobody is.
  const int result = ConnectWithoutWaiting(socket_.get(), pending_->address(), stepper.uring);
  return Answer::Performed(0, result == EISCONN ? 0 : result);
}

Wait CarriedOperation::wait() const { return {EPOLLOUT, {}}; }

std::optional<Clock::duration> CarriedOperation::timeout() const {
  return SocketTimeout(socket_.get(), SO_SNDTIMEO);
}

Answer CarriedOperation::TimedOut() { return Answer::Performed(0, EINPROGRESS); }

}  // namespace oakum::agent
