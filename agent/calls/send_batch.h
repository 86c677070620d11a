// Several messages of one sendmmsg(2), read together and sent together.
#ifndef OAKUM_AGENT_CALLS_SEND_BATCH_H_
#define OAKUM_AGENT_CALLS_SEND_BATCH_H_

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include "agent/caller/gather.h"
#include "agent/caller/message.h"
#include "agent/calls/calls.h"
#include "agent/calls/inet_destination.h"

namespace oakum::agent {

// Entries of a sendmmsg(2) that need nothing but to be sent: each with a name and without control
// messages, readable as a whole, allowed, and carried nowhere. Whatever needs more than that ends
// the batch before it, and is for who looks at one entry after the other: what is done, answered
// and told is the same as if all had been.
class SendBatch {
 public:
  // Entries, and bytes of the caller's memory, at most.
  static constexpr size_t kMostEntries = 64;
  static constexpr size_t kMostBytes = size_t{256} * 1024;

  // Whether messages of such a socket with such flags may be sent together.
  [[nodiscard]] static bool Suits(const GuardedCall& call, const PinnedSocket& socket, int flags);

  // `headers`: the mmsghdr array from the next entry on, as it was read; `address`: where it is.
  SendBatch(std::span<const char> headers, uint64_t address);

  // Copies what the first `most` entries point to. Check afterwards that the notification is still
  // valid.
  void Read(pid_t tid, size_t most);
  // Leaves those that are allowed. Nothing is counted and no event is written yet.
  void Decide(const CallContext& context, const GuardedCall& call, const PinnedSocket& socket);
  // Leaves those whose msg_len can be written to, which the kernel finds out of each that it has
  // sent, before it sends the next one: by writing what is there.
  void Probe(pid_t tid);

  [[nodiscard]] size_t size() const { return entries_.size(); }
  // Whether the entry behind them needs more than that; else there was no room for it.
  [[nodiscard]] bool stopped() const { return stopped_; }

  // Before Send(), which is to be nothing but its system call: an agent that is killed between what
  // it notes of that and the system call has not sent what it has noted.
  void Assemble();
  // Sends them without waiting. Returns how many were sent; -1 with errno where the first was not.
  [[nodiscard]] int Send(int socket_fd, int flags);
  // Counts the first `count`, and writes their events where some are due.
  void Report(SessionCore& core, const GuardedCall& call, size_t count) const;
  // Writes msg_len of the first `count`. Returns of how many it could.
  [[nodiscard]] size_t Record(pid_t tid, size_t count) const;

 private:
  struct Entry {
    SockaddrCopy name;
    size_t first_piece = 0;
    size_t pieces = 0;
    size_t allowed = 0;  // which of allowed_
  };

  void Stop(size_t count);
  [[nodiscard]] uint64_t LengthAddress(size_t index) const;

  const std::span<const char> headers_;
  const uint64_t address_;
  bool stopped_ = false;
  std::vector<Entry> entries_;
  std::vector<iovec> pieces_;
  Gather payload_{kMostBytes};
  std::vector<AllowedSend> allowed_;
  std::vector<mmsghdr> messages_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLS_SEND_BATCH_H_
