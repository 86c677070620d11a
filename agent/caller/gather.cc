#include "agent/caller/gather.h"

#include <algorithm>

#include "agent/caller/task.h"

namespace oakum::agent {

namespace {

// The smallest there are; larger ones are several of these.
constexpr uint64_t kPage = 4096;
// Names and what else an entry has may lie in arrays of their own, which take turns.
constexpr size_t kWindowsLookedAt = 4;

}  // namespace

bool Gather::Add(uint64_t address, size_t size) {
  const uint64_t end = address + size;
  if (end < address) {
    return false;
  }
  if (size == 0) {
    pieces_.push_back({0, address, 0});
    return true;
  }
  const size_t oldest = windows_.size() - std::min(windows_.size(), kWindowsLookedAt);
  for (size_t i = windows_.size(); i > oldest; --i) {
    Window& window = windows_[i - 1];
    const bool touches = address / kPage <= (window.end - 1) / kPage + 1 &&
                         (end - 1) / kPage + 1 >= window.start / kPage;
    const Window both = {std::min(window.start, address), std::max(window.end, end)};
    const size_t more = (both.end - both.start) - (window.end - window.start);
    if (touches && more <= most_ - bytes_) {
      window = both;
      bytes_ += more;
      pieces_.push_back({i - 1, address, size});
      return true;
    }
  }
  if (size > most_ - bytes_ || windows_.size() == UIO_MAXIOV) {
    return false;
  }
  bytes_ += size;
  windows_.push_back({address, end});
  pieces_.push_back({windows_.size() - 1, address, size});
  return true;
}

size_t Gather::Read(pid_t tid) {
  copy_ = std::make_unique_for_overwrite<char[]>(bytes_);
  std::vector<iovec> remote;
  remote.reserve(windows_.size());
  size_t offset = 0;
  for (Window& window : windows_) {
    window.offset = offset;
    const auto size = static_cast<size_t>(window.end - window.start);
    remote.push_back({reinterpret_cast<void*>(window.start), size});  // NOLINT: another's
    offset += size;
  }
  const size_t got = ReadMemoryVector(tid, remote, copy_.get(), bytes_);
  const auto missing = std::ranges::find_if(pieces_, [&](const Piece& piece) {
    if (piece.size == 0) {
      return false;
    }
    const Window& window = windows_[piece.window];
    return window.offset + (piece.address - window.start) + piece.size > got;
  });
  return static_cast<size_t>(missing - pieces_.begin());
}

char* Gather::at(size_t piece) const {
  const Piece& of = pieces_[piece];
  if (of.size == 0) {
    return copy_.get();
  }
  const Window& window = windows_[of.window];
  return copy_.get() + window.offset + (of.address - window.start);
}

}  // namespace oakum::agent
