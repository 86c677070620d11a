// One message on its way out.
#ifndef OAKUM_AGENT_CALLS_SEND_OPERATION_H_
#define OAKUM_AGENT_CALLS_SEND_OPERATION_H_

#include <optional>
#include <vector>

#include "agent/caller/message.h"
#include "agent/calls/calls.h"
#include "agent/calls/control_messages.h"
#include "agent/calls/unix_peer.h"

namespace oakum::agent {

// A message that has been allowed and what is needed to send it without looking back, except for
// the payload of a stream, which is copied piece by piece.
struct OutgoingMessage {
  pid_t tid = 0;
  uint64_t notification_id = 0;
  std::vector<iovec> pieces;  // in the container's memory
  size_t size = 0;
  // All of it, where it was read together with the name. It is used once.
  std::optional<std::vector<char>> payload;
  size_t largest = 0;   // a datagram beyond this is not copied: the kernel refuses it
  SockaddrCopy name;    // length 0: none
  UniqueFd name_inode;  // keeps a unix name's inode
  ControlMessages control;
  int flags = 0;                       // MSG_*, as the container gave them
  bool set_credentials = false;        // `control` holds credentials that need privilege
  std::optional<TaskStatus> identity;  // permissions of the caller, for a unix name
  bool same_user_namespace = true;
  JournalSlot* slot = nullptr;  // of the call
  std::optional<size_t> entry;  // of a sendmmsg(2): which one it is
};

// Sends without waiting and without ever taking the agent's signals or privileges along.
class MessageSender {
 public:
  MessageSender(int socket_fd, bool stream, OutgoingMessage message);

  // Bytes sent so far, EAGAIN when it would wait, or what sendmsg(2) said. ENOENT in `gone` when
  // the caller is not waiting any more.
  struct Result {
    bool finished = false;
    size_t sent = 0;
    int error = 0;
    bool gone = false;
  };
  [[nodiscard]] Result Push(const NotifyFd& notify);
  [[nodiscard]] size_t sent() const { return sent_; }

 private:
  [[nodiscard]] ssize_t SendOnce(const char* data, size_t size, bool with_control);
  // SendOnce, with a note of it.
  [[nodiscard]] ssize_t SendNoted(const char* data, size_t size);
  [[nodiscard]] Result Fail(size_t size, int error);

  const int socket_fd_;
  const bool stream_;
  OutgoingMessage message_;
  std::vector<char> payload_;
  size_t payload_start_ = 0;  // offset in the message of payload_[0]
  size_t sent_ = 0;
  bool loaded_ = false;
};

// sendto(2) or sendmsg(2): one message.
class SendOperation final : public Operation {
 public:
  SendOperation(const NotifyFd& notify, PinnedSocket socket, OutgoingMessage message);

  std::optional<Answer> Step(const Stepper& stepper) override;
  Wait wait() const override;
  int socket_fd() const override { return socket_.fd.get(); }
  std::optional<Clock::duration> timeout() const override {
    return SocketTimeout(socket_.fd.get(), SO_SNDTIMEO);
  }
  Answer TimedOut() override;
  std::optional<Answer> Abandon() override;
  UniqueFd TakeSocket() { return std::move(socket_.fd); }

 private:
  const NotifyFd& notify_;
  PinnedSocket socket_;
  const int flags_;               // MSG_*
  std::optional<bool> may_wait_;  // once it matters
  MessageSender sender_;
  std::chrono::milliseconds delay_{1};
};

// What waiting for room means on this socket: a datagram unix socket is writable although its
// peer's queue is full, so there only time helps.
[[nodiscard]] Wait WaitForRoom(const PinnedSocket& socket, std::chrono::milliseconds delay);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLS_SEND_OPERATION_H_
