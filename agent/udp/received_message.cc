#include "agent/udp/received_message.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <ctime>
#include <memory>

#include "agent/caller/message.h"
#include "agent/caller/task.h"

namespace oakum::agent {

namespace {

// No datagram is longer: the length in the header has 16 bits (RFC 768), and what the kernel has
// put together of several (UDP_GRO, udp(7)) is no longer either.
constexpr size_t kMaxDatagram = 65536;
// More control data than the kernel ever has for one datagram; beyond that room makes no
// difference.
constexpr size_t kMaxControlRoom = 16384;

// What a record of a 32-bit program begins with (struct compat_cmsghdr, include/net/compat.h).
struct CompatRecord {
  uint32_t length;
  int32_t level;
  int32_t type;
};

size_t AlignTo(size_t size, size_t alignment) { return (size + alignment - 1) & ~(alignment - 1); }

template <typename T>
T Load(const char* bytes) {
  T value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

// The times of SO_TIMESTAMP, SO_TIMESTAMPNS and SO_TIMESTAMPING have 32-bit fields there.
std::vector<char> ToCompatData(int level, int type, const char* data, size_t size) {
  const bool times = level == SOL_SOCKET &&
                     (type == SO_TIMESTAMP || type == SO_TIMESTAMPNS || type == SO_TIMESTAMPING);
  if (!times) {
    return {data, data + size};
  }
  std::vector<char> out;
  for (size_t at = 0; at + sizeof(int64_t) <= size; at += sizeof(int64_t)) {
    const auto small = static_cast<int32_t>(Load<int64_t>(data + at));
    const char* bytes = reinterpret_cast<const char*>(&small);
    out.insert(out.end(), bytes, bytes + sizeof small);
  }
  return out;
}

// Writes the records, and nothing between them: that is what the kernel does.
bool WriteControl(pid_t tid, uint64_t address, const std::vector<char>& control, bool compat) {
  const size_t header = compat ? sizeof(CompatRecord) : sizeof(cmsghdr);
  const size_t alignment = compat ? sizeof(uint32_t) : sizeof(size_t);
  size_t at = 0;
  while (control.size() - at >= header) {
    const size_t length =
        compat ? Load<uint32_t>(control.data() + at) : Load<size_t>(control.data() + at);
    if (length < header || length > control.size() - at ||
        !WriteMemory(tid, address + at, control.data() + at, length)) {
      return false;
    }
    const size_t step = AlignTo(length, alignment);
    if (step >= control.size() - at) {
      break;
    }
    at += step;
  }
  return true;
}

// move_addr_to_user(), net/socket.c.
int WriteName(pid_t tid, const SockaddrCopy& name, const Reception& where) {
  int32_t room = 0;
  if (ReadMemory(tid, where.name_length, &room, sizeof room) != sizeof room) {
    return EFAULT;
  }
  const auto length = static_cast<int32_t>(name.length);
  room = std::min(room, length);
  if (room < 0) {
    return EINVAL;
  }
  return WriteMemory(tid, where.name, &name.storage, static_cast<size_t>(room)) &&
                 WriteMemory(tid, where.name_length, &length, sizeof length)
             ? 0
             : EFAULT;
}

template <typename T>
bool WriteValue(pid_t tid, uint64_t address, T value) {
  return WriteMemory(tid, address, &value, sizeof value);
}

}  // namespace

bool ReceivedMessage::operator==(const ReceivedMessage& other) const {
  return flags == other.flags && data == other.data && control == other.control &&
         sender.length == other.sender.length &&
         memcmp(&sender.storage, &other.sender.storage, sender.length) == 0;
}

int ReadReception(pid_t tid, uint64_t address, bool compat, Reception& out) {
  char bytes[sizeof(msghdr)];
  const size_t size = RawHeaderSize(compat);
  if (ReadMemory(tid, address, bytes, size) != size) {
    return EFAULT;
  }
  const RawMessageHeader raw = DecodeRawHeader(bytes, compat);
  if (raw.name != 0 && static_cast<int32_t>(raw.name_length) < 0) {
    return EINVAL;
  }
  MessageHeader header;
  if (const int error = ReadPieces(tid, raw, compat, header); error != 0) {
    return error;
  }
  out.pieces = std::move(header.pieces);
  out.size = header.size;
  out.name = raw.name;
  out.control = raw.control;
  out.control_room = raw.control != 0 ? raw.control_length : 0;
  // Members of struct msghdr (recvmsg(2)) and of struct compat_msghdr (include/net/compat.h).
  out.name_length = address + (compat ? 4 : offsetof(msghdr, msg_namelen));
  out.control_length = address + (compat ? 20 : offsetof(msghdr, msg_controllen));
  out.flags = address + (compat ? 24 : offsetof(msghdr, msg_flags));
  return 0;
}

int TakeMessage(int socket_fd, int flags, const Reception& where, bool compat,
                ReceivedMessage& out) {
  const auto buffer = std::make_unique_for_overwrite<char[]>(kMaxDatagram);
  out.control.resize(compat ? kMaxControlRoom : std::min(where.control_room, kMaxControlRoom));
  iovec piece = {buffer.get(), kMaxDatagram};
  msghdr header = {};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_name = &out.sender.storage;
  header.msg_namelen = sizeof out.sender.storage;
  header.msg_control = out.control.data();
  header.msg_controllen = out.control.size();
  // MSG_CMSG_COMPAT is the kernel's own.
  const ssize_t got = recvmsg(socket_fd, &header, (flags & INT_MAX) | MSG_DONTWAIT | MSG_TRUNC);
  if (got < 0) {
    return errno;
  }
  out.data.assign(buffer.get(), buffer.get() + std::min<size_t>(got, kMaxDatagram));
  out.sender.length = header.msg_namelen;
  out.control.resize(header.msg_controllen);
  out.flags = header.msg_flags & ~MSG_TRUNC;
  return 0;
}

std::vector<char> ToCompatControl(const std::vector<char>& native, size_t room, bool& truncated) {
  std::vector<char> out;
  truncated = false;
  size_t at = 0;
  while (native.size() - at >= sizeof(cmsghdr)) {
    const auto record = Load<cmsghdr>(native.data() + at);
    if (record.cmsg_len < sizeof record || record.cmsg_len > native.size() - at) {
      break;
    }
    const size_t left = room - out.size();
    if (left < sizeof(CompatRecord)) {
      truncated = true;
      break;
    }
    const std::vector<char> data =
        ToCompatData(record.cmsg_level, record.cmsg_type, native.data() + at + CMSG_LEN(0),
                     record.cmsg_len - CMSG_LEN(0));
    const size_t whole = sizeof(CompatRecord) + data.size();
    truncated = truncated || whole > left;
    const CompatRecord small = {static_cast<uint32_t>(std::min(whole, left)), record.cmsg_level,
                                record.cmsg_type};
    const size_t start = out.size();
    out.resize(start + std::min(AlignTo(whole, sizeof(uint32_t)), left));
    memcpy(out.data() + start, &small, sizeof small);
    std::copy_n(data.begin(), small.length - sizeof small,
                out.begin() + static_cast<std::ptrdiff_t>(start + sizeof small));
    const size_t step = AlignTo(record.cmsg_len, sizeof(size_t));
    if (step >= native.size() - at) {
      break;
    }
    at += step;
  }
  return out;
}

ssize_t WriteMessage(pid_t tid, const ReceivedMessage& message, int flags, bool compat,
                     const Reception& where) {
  const size_t written = std::min(message.data.size(), where.size);
  if (WritePayload(tid, where.pieces, message.data.data(), written) != written) {
    return -EFAULT;
  }
  int message_flags = message.flags;
  if (message.data.size() > where.size) {
    message_flags |= MSG_TRUNC;
  }
  const auto result =
      static_cast<ssize_t>((flags & MSG_TRUNC) != 0 ? message.data.size() : written);
  std::vector<char> converted;
  const std::vector<char>* control = &message.control;
  if (compat) {
    bool truncated = false;
    converted = ToCompatControl(message.control, where.control_room, truncated);
    message_flags |= truncated ? MSG_CTRUNC : 0;
    control = &converted;
  } else if (message.control.size() > where.control_room) {
    message_flags |= MSG_CTRUNC;  // taken for another call, which had more room
    control = &converted;
  }
  // The order of ____sys_recvmsg() and __sys_recvfrom(), net/socket.c.
  // Control messages that cannot be written are left out, and nothing is said (put_cmsg()).
  const uint64_t used = WriteControl(tid, where.control, *control, compat) ? control->size() : 0;
  if (where.name != 0) {
    if (const int error = WriteName(tid, message.sender, where); error != 0) {
      return -error;
    }
  }
  if (where.flags != 0 && !WriteValue(tid, where.flags, message_flags)) {
    return -EFAULT;
  }
  if (where.control_length != 0 &&
      !(compat ? WriteValue(tid, where.control_length, static_cast<uint32_t>(used))
               : WriteValue(tid, where.control_length, used))) {
    return -EFAULT;
  }
  return result;
}

}  // namespace oakum::agent
