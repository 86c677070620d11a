// A message to be sent, copied once from the container: sendto(2), sendmsg(2), sendmmsg(2); and
// what one that is received has in common with it.
#ifndef OAKUM_AGENT_CALLER_MESSAGE_H_
#define OAKUM_AGENT_CALLER_MESSAGE_H_

#include <sys/types.h>
#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "agent/caller/process_info.h"
#include "agent/caller/sockaddr.h"

namespace oakum::agent {

// The kernel's own bounds: UIO_MAXIOV pieces, MAX_RW_COUNT bytes (read_write.c), and more control
// data than net.core.optmem_max allows is ENOBUFS.
inline constexpr size_t kMaxPieces = 1024;
inline constexpr size_t kMaxBytes = 0x7ffff000;
inline constexpr size_t kMaxControl = size_t{256} * 1024;

// A msghdr whose parts have been read, its payload not yet.
struct MessageHeader {
  SockaddrCopy name;          // length 0: none
  std::vector<iovec> pieces;  // in the container's memory
  size_t size = 0;            // bytes in all pieces, at most kMaxBytes
  std::vector<char> control;  // cmsghdr records in the native layout
};

// The layout of a msghdr as it lies in memory, before its parts are read.
struct RawMessageHeader {
  uint64_t name = 0;
  uint32_t name_length = 0;
  uint64_t pieces = 0;
  uint64_t piece_count = 0;
  uint64_t control = 0;
  uint64_t control_length = 0;
  int flags = 0;  // of which sendmmsg(2) takes MSG_EOR
};

// Whether the kernel would look at `size` bytes from `address` at all (access_ok()): beyond a
// process's half of the addresses it says EFAULT before anything else.
[[nodiscard]] bool IsUserRange(uint64_t address, uint64_t size);

// Size of one msghdr and one mmsghdr in memory.
[[nodiscard]] size_t RawHeaderSize(bool compat);
[[nodiscard]] size_t RawMultipleHeaderSize(bool compat);
// Decodes one msghdr from `bytes` (RawHeaderSize of them).
[[nodiscard]] RawMessageHeader DecodeRawHeader(const char* bytes, bool compat);

// Fills `out.pieces` and `out.size` from the bytes of an iovec array: 0, EINVAL or EFAULT, as
// import_iovec() (lib/iov_iter.c).
[[nodiscard]] int DecodePieces(const std::vector<char>& raw, bool compat, MessageHeader& out);

// Reads the iovec array that `raw` names: 0, EINVAL, EFAULT or EMSGSIZE (copy_iovec_from_user()).
[[nodiscard]] int ReadPieces(pid_t tid, const RawMessageHeader& raw, bool compat,
                             MessageHeader& out);

// Copies a socket address: 0, EINVAL for a length outside 0..128, EFAULT
// (move_addr_to_kernel(), net/socket.c).
[[nodiscard]] int ReadSockaddr(pid_t tid, uint64_t address, int32_t length, SockaddrCopy& out);

// The same, and with it, as one system call, what is at `mark.address` unless that is 0; the mark
// is left unread where it cannot be read.
[[nodiscard]] int ReadSockaddr(pid_t tid, uint64_t address, int32_t length, SockaddrCopy& out,
                               ProgramMark& mark);

// The same, and between both `size` bytes at `data`, which are left out where not all of them can
// be read.
[[nodiscard]] int ReadSockaddr(pid_t tid, uint64_t address, int32_t length, SockaddrCopy& out,
                               uint64_t data, size_t size, std::optional<std::vector<char>>& bytes,
                               ProgramMark& mark);

// Reads what `raw` points to. Returns 0 or the errno value that sendmsg(2) would give: EINVAL,
// EFAULT, EMSGSIZE, ENOBUFS.
[[nodiscard]] int ReadMessageHeader(pid_t tid, const RawMessageHeader& raw, bool compat,
                                    MessageHeader& out);

// Copies payload bytes [offset, offset + size) of the pieces; returns how many were readable.
[[nodiscard]] size_t ReadPayload(pid_t tid, const std::vector<iovec>& pieces, size_t offset,
                                 char* out, size_t size);

// Writes `size` bytes to the pieces, of which there are at most kMaxPieces; returns how many were
// writable.
[[nodiscard]] size_t WritePayload(pid_t tid, const std::vector<iovec>& pieces, const char* data,
                                  size_t size);

// Turns cmsghdr records of a 32-bit program into native ones (compat_cmsghdr). False when
// malformed.
[[nodiscard]] bool ConvertCompatControl(const std::vector<char>& compat, std::vector<char>& native);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_MESSAGE_H_
