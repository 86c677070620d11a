#include "agent/caller/message.h"

#include <sys/uio.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <span>

#include "agent/caller/task.h"

namespace oakum::agent {

namespace {

// A 32-bit program's structures (include/net/compat.h).
struct CompatMsghdr {
  uint32_t name;
  int32_t name_length;
  uint32_t pieces;
  uint32_t piece_count;
  uint32_t control;
  uint32_t control_length;
  uint32_t flags;
};
struct CompatIovec {
  uint32_t base;
  uint32_t length;
};
struct CompatCmsghdr {
  uint32_t length;
  int32_t level;
  int32_t type;
};

template <typename T>
T Load(const char* bytes) {
  T value;
  memcpy(&value, bytes, sizeof value);
  return value;
}

uint64_t AddressOf(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

// In the order of what must not be kept from being read: process_vm_readv(2) ends where it cannot.
int ReadAtOnce(pid_t tid, uint64_t address, int32_t length, SockaddrCopy& out, uint64_t data,
               std::span<char> data_out, bool& data_read, ProgramMark& mark) {
  out.length = 0;
  data_read = false;
  mark.read = false;
  if (length < 0 || static_cast<size_t>(length) > sizeof out.storage) {
    return EINVAL;
  }
  const auto name_size = static_cast<size_t>(length);
  const size_t mark_size = mark.address != 0 ? mark.bytes.size() : 0;
  const std::array local = {iovec{&out.storage, name_size}, iovec{data_out.data(), data_out.size()},
                            iovec{mark.bytes.data(), mark_size}};
  const std::array remote = {
      iovec{reinterpret_cast<void*>(address), name_size},        // NOLINT: another address space
      iovec{reinterpret_cast<void*>(data), data_out.size()},     // NOLINT
      iovec{reinterpret_cast<void*>(mark.address), mark_size}};  // NOLINT
  const size_t count = mark_size != 0 ? 3 : data_out.empty() ? 1 : 2;
  const ssize_t put = process_vm_readv(tid, local.data(), count, remote.data(), count, 0);
  const size_t got = put > 0 ? static_cast<size_t>(put) : 0;
  if (got < name_size) {
    return EFAULT;
  }
  out.length = static_cast<socklen_t>(length);
  data_read = got >= name_size + data_out.size();
  mark.read = mark_size != 0 && got == name_size + data_out.size() + mark_size;
  return 0;
}

}  // namespace

bool IsUserRange(uint64_t address, uint64_t size) {
#if defined(__x86_64__)
  uint64_t end = 0;
  constexpr uint64_t kTaskSize = (uint64_t{1} << 56) - 4096;  // with five levels of page tables
  return !__builtin_add_overflow(address, size, &end) && end <= kTaskSize;
#else
  // Addresses carry tags in their upper bits: what cannot be read will not be.
  return address + size >= address;
#endif
}

size_t RawHeaderSize(bool compat) { return compat ? sizeof(CompatMsghdr) : sizeof(msghdr); }

size_t RawMultipleHeaderSize(bool compat) {
  return compat ? sizeof(CompatMsghdr) + sizeof(uint32_t) : sizeof(mmsghdr);
}

RawMessageHeader DecodeRawHeader(const char* bytes, bool compat) {
  if (compat) {
    const auto header = Load<CompatMsghdr>(bytes);
    return {header.name,
            static_cast<uint32_t>(header.name_length),
            header.pieces,
            header.piece_count,
            header.control,
            header.control_length,
            static_cast<int>(header.flags)};
  }
  const auto header = Load<msghdr>(bytes);
  return {AddressOf(header.msg_name),
          header.msg_namelen,
          AddressOf(header.msg_iov),
          header.msg_iovlen,
          AddressOf(header.msg_control),
          header.msg_controllen,
          header.msg_flags};
}

int DecodePieces(const std::vector<char>& raw, bool compat, MessageHeader& out) {
  const size_t stride = compat ? sizeof(CompatIovec) : sizeof(iovec);
  const size_t count = raw.size() / stride;
  std::vector<iovec> pieces(count);
  for (size_t i = 0; i < count; ++i) {
    iovec& piece = pieces[i];
    if (compat) {
      const auto small = Load<CompatIovec>(raw.data() + i * stride);
      if (static_cast<int32_t>(small.length) < 0) {
        return EINVAL;
      }
      piece = {reinterpret_cast<void*>(uintptr_t{small.base}), small.length};  // NOLINT: remote
    } else {
      piece = Load<iovec>(raw.data() + i * stride);
      if (static_cast<ssize_t>(piece.iov_len) < 0) {
        return EINVAL;
      }
    }
  }
  out.pieces.clear();
  out.size = 0;
  for (iovec& piece : pieces) {
    if (count == 1) {
      piece.iov_len = std::min(piece.iov_len, kMaxBytes);  // __import_iovec_ubuf()
    }
    if (!IsUserRange(AddressOf(piece.iov_base), piece.iov_len)) {
      return EFAULT;
    }
    // import_iovec() cuts the total silently.
    piece.iov_len = std::min(piece.iov_len, kMaxBytes - out.size);
    out.size += piece.iov_len;
    if (piece.iov_len > 0) {
      out.pieces.push_back(piece);
    }
  }
  return 0;
}

int ReadSockaddr(pid_t tid, uint64_t address, int32_t length, SockaddrCopy& out) {
  ProgramMark none;
  return ReadSockaddr(tid, address, length, out, none);
}

int ReadSockaddr(pid_t tid, uint64_t address, int32_t length, SockaddrCopy& out,
                 ProgramMark& mark) {
  bool nothing = false;
  return ReadAtOnce(tid, address, length, out, 0, {}, nothing, mark);
}

int ReadSockaddr(pid_t tid, uint64_t address, int32_t length, SockaddrCopy& out, uint64_t data,
                 size_t size, std::optional<std::vector<char>>& bytes, ProgramMark& mark) {
  bytes.emplace(size);
  bool read = false;
  const int error = ReadAtOnce(tid, address, length, out, data, *bytes, read, mark);
  if (!read) {
    bytes.reset();
  }
  return error;
}

int ReadPieces(pid_t tid, const RawMessageHeader& raw, bool compat, MessageHeader& out) {
  if (raw.piece_count > kMaxPieces) {
    return EMSGSIZE;
  }
  std::vector<char> pieces(raw.piece_count * (compat ? sizeof(CompatIovec) : sizeof(iovec)));
  const size_t got = ReadMemory(tid, raw.pieces, pieces.data(), pieces.size());
  const bool complete = got == pieces.size();
  pieces.resize(got);
  // A length that is no length comes before the fault behind it (copy_iovec_from_user()).
  if (const int error = DecodePieces(pieces, compat, out); error == EINVAL || complete) {
    return error;
  }
  return EFAULT;
}

int ReadMessageHeader(pid_t tid, const RawMessageHeader& raw, bool compat, MessageHeader& out) {
  // The order of the checks is that of copy_msghdr_from_user() and ____sys_sendmsg().
  const auto name_length = static_cast<int32_t>(raw.name_length);
  if (name_length < 0 && raw.name != 0) {
    return EINVAL;
  }
  const size_t name_size =
      raw.name == 0 ? 0
                    : std::min<size_t>(static_cast<size_t>(name_length), sizeof out.name.storage);
  out.name.length = 0;
  if (name_size > 0) {
    if (ReadMemory(tid, raw.name, &out.name.storage, name_size) != name_size) {
      return EFAULT;
    }
    out.name.length = static_cast<socklen_t>(name_size);
  }
  if (const int error = ReadPieces(tid, raw, compat, out); error != 0) {
    return error;
  }
  out.control.clear();
  if (raw.control_length > kMaxControl) {
    return ENOBUFS;
  }
  if (raw.control_length > 0) {
    out.control.resize(raw.control_length);
    if (ReadMemory(tid, raw.control, out.control.data(), out.control.size()) !=
        out.control.size()) {
      return EFAULT;
    }
    if (compat) {
      std::vector<char> native;
      if (!ConvertCompatControl(out.control, native)) {
        return EINVAL;
      }
      out.control = std::move(native);
    }
  }
  return 0;
}

size_t ReadPayload(pid_t tid, const std::vector<iovec>& pieces, size_t offset, char* out,
                   size_t size) {
  size_t first = 0;
  while (first < pieces.size() && offset >= pieces[first].iov_len) {
    offset -= pieces[first].iov_len;
    ++first;
  }
  if (first == pieces.size() || size == 0) {
    return 0;
  }
  std::vector<iovec> rest;
  size_t total = 0;
  for (size_t i = first; i < pieces.size() && total < size; ++i) {
    iovec piece = pieces[i];
    if (i == first) {
      piece.iov_base = static_cast<char*>(piece.iov_base) + offset;
      piece.iov_len -= offset;
    }
    piece.iov_len = std::min(piece.iov_len, size - total);
    total += piece.iov_len;
    rest.push_back(piece);
  }
  return ReadMemoryVector(tid, rest, out, total);
}

size_t WritePayload(pid_t tid, const std::vector<iovec>& pieces, const char* data, size_t size) {
  std::vector<iovec> remote;
  size_t total = 0;
  for (iovec piece : pieces) {
    if (total == size) {
      break;
    }
    piece.iov_len = std::min(piece.iov_len, size - total);
    total += piece.iov_len;
    remote.push_back(piece);
  }
  return WriteMemoryVector(tid, remote, data, total);
}

bool ConvertCompatControl(const std::vector<char>& compat, std::vector<char>& native) {
  native.clear();
  size_t at = 0;
  while (compat.size() - at >= sizeof(CompatCmsghdr)) {
    const auto header = Load<CompatCmsghdr>(compat.data() + at);
    if (header.length < sizeof(CompatCmsghdr) || header.length > compat.size() - at) {
      return false;
    }
    const size_t data = header.length - sizeof(CompatCmsghdr);
    const size_t start = native.size();
    native.resize(start + CMSG_SPACE(data));
    cmsghdr wide = {};
    wide.cmsg_len = CMSG_LEN(data);
    wide.cmsg_level = header.level;
    wide.cmsg_type = header.type;
    memcpy(native.data() + start, &wide, sizeof wide);
    memcpy(native.data() + start + CMSG_LEN(0), compat.data() + at + sizeof(CompatCmsghdr), data);
    const size_t step = (header.length + 3U) & ~size_t{3};
    if (step >= compat.size() - at) {
      break;
    }
    at += step;
  }
  return true;
}

}  // namespace oakum::agent
