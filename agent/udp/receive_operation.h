// recvfrom(2), recvmsg(2) and recvmmsg(2) on a datagram socket that is carried.
#ifndef OAKUM_AGENT_UDP_RECEIVE_OPERATION_H_
#define OAKUM_AGENT_UDP_RECEIVE_OPERATION_H_

#include <memory>
#include <optional>
#include <vector>

#include "agent/calls/calls.h"
#include "agent/udp/received_message.h"

namespace oakum::agent {

// The array of recvmmsg(2).
struct MessageArray {
  uint64_t address = 0;
  size_t count = 0;
  // When to stop although there is room: looked at after each message (recvmmsg(2), "BUGS").
  std::optional<Clock::time_point> until;
  uint64_t time_address = 0;  // where the time that is left is written
  bool wide_time = true;      // with 64-bit fields
};

// The socket itself is never made to wait. What was taken for a caller who has left meanwhile is
// the next that the socket gives.
class ReceiveOperation final : public Operation {
 public:
  ReceiveOperation(std::shared_ptr<SessionCore> core, const GuardedCall& call, PinnedSocket socket,
                   int flags, Reception where);
  ReceiveOperation(std::shared_ptr<SessionCore> core, const GuardedCall& call, PinnedSocket socket,
                   int flags, const MessageArray& array);

  std::optional<Answer> Step(const Stepper& stepper) override;
  Wait wait() const override;
  int socket_fd() const override { return socket_.fd.get(); }
  std::optional<Clock::duration> timeout() const override {
    return SocketTimeout(socket_.fd.get(), SO_RCVTIMEO);
  }
  Answer TimedOut() override { return Finish(EAGAIN); }
  std::optional<Answer> Abandon() override;
  UniqueFd TakeSocket() { return std::move(socket_.fd); }

 private:
  // More messages of one recvmmsg(2) than these are not taken back one by one: that call's answer
  // is kept for a replay.
  static constexpr size_t kMaxTaken = 64;

  // One message into `where`. Bytes, or minus an errno value: EAGAIN when there is none yet.
  // `gone`: the caller is not there any more, and nothing has been lost.
  ssize_t ReceiveOne(const Reception& where, bool& gone);
  // Writes the next one, which stays in the socket, and returns as ReceiveOne(). `seen`: that one;
  // nothing where it is not written yet.
  ssize_t WriteAhead(const Reception& where, std::optional<ReceivedMessage>& seen, bool& gone);
  // What is noted of one that was written ahead does not hold.
  void Unnote() const;
  // Has it be from whom the program sent to.
  void Translate(ReceivedMessage& message) const;
  // 0 or an errno value: where message `next_` of the array is to go.
  [[nodiscard]] int Locate(Reception& out) const;
  // Writes msg_len of the message before, as recvmmsg(2) does after each.
  [[nodiscard]] bool Record(size_t size) const;
  // What was received counts; an error shows only when nothing was.
  Answer Finish(int error);
  // The answer, with what has to be taken back if nobody gets it.
  Answer Received(int64_t value);
  [[nodiscard]] bool may_wait() const;

  const std::shared_ptr<SessionCore> core_;
  const GuardedCall call_;
  PinnedSocket socket_;
  const uint64_t cookie_;
  const int flags_;
  const bool blocking_;
  const Reception single_;
  const std::optional<MessageArray> array_;
  size_t next_ = 0;
  std::vector<ReceivedMessage> taken_;  // but for MSG_PEEK
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_UDP_RECEIVE_OPERATION_H_
