// One datagram on its way in: taken from a socket, written where its receiver wants it.
#ifndef OAKUM_AGENT_UDP_RECEIVED_MESSAGE_H_
#define OAKUM_AGENT_UDP_RECEIVED_MESSAGE_H_

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <vector>

#include "agent/caller/sockaddr.h"

namespace oakum::agent {

// A datagram as recvmsg(2) has given it, whole.
struct ReceivedMessage {
  std::vector<char> data;
  SockaddrCopy sender;
  std::vector<char> control;  // cmsghdr records in the native layout
  int flags = 0;              // msg_flags; MSG_TRUNC is for who writes it to add

  bool operator==(const ReceivedMessage& other) const;
};

// Where a message is to be written in the container's memory: the results of recvfrom(2), or what a
// msghdr points to. Address 0: not wanted, except for control messages.
struct Reception {
  std::vector<iovec> pieces;
  size_t size = 0;           // bytes in all pieces
  uint64_t name = 0;         // the sender's address
  uint64_t name_length = 0;  // an int: room, then the length
  uint64_t control = 0;
  size_t control_room = 0;
  uint64_t control_length = 0;  // msg_controllen
  uint64_t flags = 0;           // msg_flags
};

// Decodes a msghdr that lies at `address` of thread `tid`; reads its pieces. 0, or the errno value
// that recvmsg(2) gives: EINVAL, EFAULT, EMSGSIZE.
[[nodiscard]] int ReadReception(pid_t tid, uint64_t address, bool compat, Reception& out);

// Takes one datagram without waiting. `flags`: the caller's. 0, or recvmsg(2)'s errno value: EAGAIN
// when there is none. `compat`: the control messages will be converted, and take less room then.
[[nodiscard]] int TakeMessage(int socket_fd, int flags, const Reception& where, bool compat,
                              ReceivedMessage& out);

// Writes the message as recvmsg(2) and recvfrom(2) do. `flags`: the caller's. Bytes, as the call
// returns them (MSG_TRUNC: of the whole datagram), or minus an errno value: EFAULT, EINVAL.
[[nodiscard]] ssize_t WriteMessage(pid_t tid, const ReceivedMessage& message, int flags,
                                   bool compat, const Reception& where);

// The control messages as a 32-bit program with so much room gets them (put_cmsg_compat(),
// net/compat.c). `truncated` says that there was not enough (MSG_CTRUNC). Pure.
[[nodiscard]] std::vector<char> ToCompatControl(const std::vector<char>& native, size_t room,
                                                bool& truncated);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_UDP_RECEIVED_MESSAGE_H_
