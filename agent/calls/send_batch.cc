#include "agent/calls/send_batch.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "agent/caller/task.h"

namespace oakum::agent {

namespace {

constexpr size_t kStride = sizeof(mmsghdr);
constexpr uint64_t kPage = 4096;
// Of one message.
constexpr size_t kMostPieces = 8;
constexpr size_t kMostDatagram = 65535;  // beyond, EMSGSIZE (udp_sendmsg())
constexpr int kFlags = MSG_DONTWAIT | MSG_NOSIGNAL | MSG_CONFIRM | MSG_DONTROUTE;

bool IsSimple(const RawMessageHeader& raw) {
  return raw.name != 0 && raw.name_length > 0 && raw.name_length <= sizeof(sockaddr_storage) &&
         raw.piece_count <= kMostPieces && raw.control_length == 0 && (raw.flags & MSG_EOR) == 0;
}

bool SameName(const SockaddrCopy& one, const SockaddrCopy& other) {
  return one.length == other.length && memcmp(&one.storage, &other.storage, one.length) == 0;
}

}  // namespace

bool SendBatch::Suits(const GuardedCall& call, const PinnedSocket& socket, int flags) {
  return !call.kind.compat && socket.is_inet() && socket.type == SOCK_DGRAM &&
         (flags & ~kFlags) == 0;
}

SendBatch::SendBatch(std::span<const char> headers, uint64_t address)
    : headers_(headers), address_(address) {}

void SendBatch::Stop(size_t count) {
  if (count < entries_.size()) {
    entries_.resize(count);
    stopped_ = true;
  }
}

void SendBatch::Read(pid_t tid, size_t most) {
  Gather heads(kMostBytes);
  const size_t count = std::min({most, kMostEntries, headers_.size() / kStride});
  entries_.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    const RawMessageHeader raw = DecodeRawHeader(headers_.data() + i * kStride, false);
    if (!IsSimple(raw)) {
      stopped_ = true;
      break;
    }
    if (!heads.Add(raw.name, raw.name_length) ||
        !heads.Add(raw.pieces, raw.piece_count * sizeof(iovec))) {
      break;
    }
    Entry& entry = entries_.emplace_back();
    entry.name.length = raw.name_length;
    entry.pieces = raw.piece_count;
  }
  Stop(heads.Read(tid) / 2);
  std::vector<char> raw_pieces;
  for (size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    memcpy(&entry.name.storage, heads.at(2 * i), entry.name.length);
    raw_pieces.assign(heads.at(2 * i + 1), heads.at(2 * i + 1) + entry.pieces * sizeof(iovec));
    MessageHeader header;
    if (DecodePieces(raw_pieces, false, header) != 0 || header.size > kMostDatagram) {
      Stop(i);
      break;
    }
    entry.first_piece = pieces_.size();
    entry.pieces = header.pieces.size();
    if (!std::ranges::all_of(header.pieces, [&](const iovec& piece) {
          return payload_.Add(reinterpret_cast<uintptr_t>(piece.iov_base), piece.iov_len);
        })) {
      entries_.resize(i);  // no room: the next batch's
      break;
    }
    pieces_.insert(pieces_.end(), header.pieces.begin(), header.pieces.end());
  }
  const size_t readable = payload_.Read(tid);
  const auto cut = std::ranges::find_if(
      entries_, [&](const Entry& entry) { return entry.first_piece + entry.pieces > readable; });
  Stop(static_cast<size_t>(cut - entries_.begin()));
}

void SendBatch::Decide(const CallContext& context, const GuardedCall& call,
                       const PinnedSocket& socket) {
  std::optional<bool> bound;
  SockaddrCopy last;  // as it was read
  for (size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (i > 0 && SameName(entry.name, last)) {
      entry.name = entries_[i - 1].name;
      entry.allowed = entries_[i - 1].allowed;
      continue;
    }
    last = entry.name;
    const Destination destination = ReadSendAddress(entry.name, socket);
    auto allowed = AllowsAsItIs(context, call, socket, destination, bound);
    if (!allowed) {
      Stop(i);
      return;
    }
    entry.allowed = allowed_.size();
    allowed_.push_back(std::move(*allowed));
  }
}

uint64_t SendBatch::LengthAddress(size_t index) const {
  return address_ + index * kStride + offsetof(mmsghdr, msg_len);
}

void SendBatch::Probe(pid_t tid) {
  if (address_ % alignof(mmsghdr) != 0) {
    Stop(0);  // a length may lie in two pages
    return;
  }
  for (size_t i = 0; i < entries_.size(); ++i) {
    const uint64_t at = LengthAddress(i);
    if (i > 0 && at / kPage == LengthAddress(i - 1) / kPage) {
      continue;
    }
    if (!WriteMemory(tid, at, headers_.data() + i * kStride + offsetof(mmsghdr, msg_len),
                     sizeof(mmsghdr::msg_len))) {
      Stop(i);
      return;
    }
  }
}

void SendBatch::Assemble() {
  for (size_t i = 0; i < pieces_.size(); ++i) {
    pieces_[i].iov_base = payload_.at(i);
  }
  messages_.resize(entries_.size());
  for (size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    msghdr& header = messages_[i].msg_hdr;
    header.msg_name = &entry.name.storage;
    header.msg_namelen = entry.name.length;
    header.msg_iov = pieces_.data() + entry.first_piece;
    header.msg_iovlen = entry.pieces;
  }
}

int SendBatch::Send(int socket_fd, int flags) {
  return sendmmsg(socket_fd, messages_.data(), static_cast<unsigned>(messages_.size()),
                  flags | MSG_DONTWAIT | MSG_NOSIGNAL);
}

void SendBatch::Report(SessionCore& core, const GuardedCall& call, size_t count) const {
  for (size_t i = 0; i < count; ++i) {
    const AllowedSend& allowed = allowed_[entries_[i].allowed];
    (void)core.Judge(call, allowed.request, allowed.judged);
  }
}

size_t SendBatch::Record(pid_t tid, size_t count) const {
  constexpr size_t kSize = sizeof(mmsghdr::msg_len);
  std::array<uint32_t, kMostEntries> lengths;
  std::array<iovec, kMostEntries> places;
  for (size_t i = 0; i < count; ++i) {
    lengths[i] = messages_[i].msg_len;
    places[i] = {reinterpret_cast<void*>(LengthAddress(i)), kSize};  // NOLINT: another's memory
  }
  return WriteMemoryVector(tid, std::span(places).first(count), lengths.data(), count * kSize) /
         kSize;
}

}  // namespace oakum::agent
