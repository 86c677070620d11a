#include "agent/kept/journal.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <utility>

namespace oakum::agent {

namespace {

constexpr std::array<char, 8> kMagic = {'O', 'A', 'K', 'U', 'M', 'S', 'E', 'S'};

// The file: this, the slots, the state. The first fields are the same in every version.
struct Header {
  std::array<char, 8> magic;
  uint32_t version;
  uint32_t header_size;
  uint32_t slot_size;
  uint32_t slot_count;
  uint64_t state_size;  // at kMapped
  uint32_t noted_size;  // at noted_place behind the state
  uint32_t noted_place;
};
constexpr size_t kHeaderRoom = 64;
static_assert(sizeof(Header) <= kHeaderRoom && sizeof(JournalSlot) == 192);
constexpr size_t kMapped = kHeaderRoom + kJournalSlots * sizeof(JournalSlot);
// What was noted and its place are written in one piece.
static_assert(offsetof(Header, noted_size) % 8 == 0);
// Note() goes behind what is there only where it is longer than all that is before that.
constexpr size_t kMaxNotedPlace = 2 * kMaxKeptState;

Expected<Header> ReadHeader(int fd) {
  Header header = {};
  const ssize_t got = pread(fd, &header, sizeof header, 0);
  if (got < 0) {
    return ErrnoError("read a kept session");
  }
  if (static_cast<size_t>(got) < sizeof header || header.magic != kMagic) {
    return MakeError(EINVAL, "a kept descriptor is not the state of a session");
  }
  if (header.version != kJournalVersion) {
    return MakeError(ENOTSUP,
                     fmt::format("a session was kept in version {} of its format, and this agent "
                                 "knows version {}: start the agent that kept it, or one of its "
                                 "kind",
                                 header.version, kJournalVersion));
  }
  struct stat status = {};
  if (fstat(fd, &status) != 0) {
    return ErrnoError("fstat");
  }
  if (header.header_size != kHeaderRoom || header.slot_size != sizeof(JournalSlot) ||
      header.slot_count != kJournalSlots || header.state_size > kMaxKeptState ||
      header.noted_size > kMaxKeptState || header.noted_place > kMaxNotedPlace ||
      static_cast<uint64_t>(status.st_size) <
          kMapped + header.state_size + header.noted_place + header.noted_size) {
    return MakeError(EINVAL, "the state of a kept session is damaged");
  }
  return header;
}

Expected<JournalSlot*> Map(int fd) {
  void* base = mmap(nullptr, kMapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED) {
    return ErrnoError("mmap");
  }
  return reinterpret_cast<JournalSlot*>(static_cast<char*>(base) + kHeaderRoom);
}

Expected<void> WriteAll(int fd, std::string_view bytes, size_t offset) {
  while (!bytes.empty()) {
    const ssize_t put = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (put < 0) {
      return ErrnoError("write a session's state");
    }
    bytes.remove_prefix(static_cast<size_t>(put));
    offset += static_cast<size_t>(put);
  }
  return {};
}

Expected<std::string> ReadPart(int fd, size_t offset, size_t size) {
  std::string part(size, '\0');
  if (pread(fd, part.data(), size, static_cast<off_t>(offset)) != static_cast<ssize_t>(size)) {
    return MakeError(EINVAL, "the state of a kept session is cut off");
  }
  return part;
}

}  // namespace

void JournalSlot::Clear() {
  notification.id = 0;
  std::atomic_signal_fence(std::memory_order_release);
  Restart();
}

void JournalSlot::Restart() {
  error = 0;
  socket = -1;
  value = 0;
  progress = 0;
  cookie = 0;
  written = 0;
  sigpipe = 0;
  act.store(JournalAct::kNone, std::memory_order_relaxed);
  phase.store(JournalPhase::kReceived, std::memory_order_release);
}

uint64_t StreamPosition(int socket_fd) {
  constexpr int kTries = 8;
  const auto acked = [&]() -> std::optional<uint64_t> {
    tcp_info info = {};
    socklen_t length = sizeof info;
    if (getsockopt(socket_fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) {
      return std::nullopt;
    }
    return info.tcpi_bytes_acked;
  };
  auto before = acked();
  for (int i = 0; i < kTries && before; ++i) {
    int queued = 0;  // written, and not acknowledged
    if (ioctl(socket_fd, SIOCOUTQ, &queued) != 0) {
      return 0;
    }
    const auto after = acked();
    if (before == after) {
      return *before + static_cast<uint64_t>(queued) + 1;
    }
    before = after;
  }
  return 0;
}

Journal::Journal(UniqueFd file, JournalSlot* slots) : file_(std::move(file)), slots_(slots) {}

Journal::Journal(Journal&& other) noexcept
    : file_(std::move(other.file_)),
      slots_(std::exchange(other.slots_, nullptr)),
      fresh_(other.fresh_),
      free_(std::move(other.free_)) {}

Journal::~Journal() {
  if (slots_ != nullptr) {
    munmap(reinterpret_cast<char*>(slots_) - kHeaderRoom, kMapped);
  }
}

Expected<Journal> Journal::Create(std::string_view state) {
  if (state.size() > kMaxKeptState) {
    return MakeError(EMSGSIZE, "the state of the session is too long to be kept");
  }
  UniqueFd file(memfd_create("oakum-session", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) {
    return ErrnoError("memfd_create");
  }
  if (ftruncate(file.get(), static_cast<off_t>(kMapped + state.size())) != 0) {
    return ErrnoError("ftruncate");
  }
  const Header header = {.magic = kMagic,
                         .version = kJournalVersion,
                         .header_size = kHeaderRoom,
                         .slot_size = sizeof(JournalSlot),
                         .slot_count = kJournalSlots,
                         .state_size = state.size(),
                         .noted_size = 0,
                         .noted_place = 0};
  const std::string_view bytes(reinterpret_cast<const char*>(&header), sizeof header);
  for (const auto& [part, offset] : {std::pair{state, kMapped}, std::pair{bytes, size_t{0}}}) {
    if (auto written = WriteAll(file.get(), part, offset); !written) {
      return std::unexpected(std::move(written.error()));
    }
  }
  if (fcntl(file.get(), F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
    return ErrnoError("F_ADD_SEALS");
  }
  auto slots = Map(file.get());
  if (!slots) {
    return std::unexpected(std::move(slots.error()));
  }
  return Journal(std::move(file), *slots);
}

Expected<Journal> Journal::Open(UniqueFd file) {
  if (auto header = ReadHeader(file.get()); !header) {
    return std::unexpected(std::move(header.error()));
  }
  auto slots = Map(file.get());
  if (!slots) {
    return std::unexpected(std::move(slots.error()));
  }
  return Journal(std::move(file), *slots);
}

Expected<void> Journal::Check(int fd) {
  if (auto header = ReadHeader(fd); !header) {
    return std::unexpected(std::move(header.error()));
  }
  return {};
}

Expected<std::string> Journal::State() const {
  const auto header = ReadHeader(file_.get());
  if (!header) {
    return std::unexpected(header.error());
  }
  return ReadPart(file_.get(), kMapped, header->state_size);
}

Expected<void> Journal::Note(std::string_view text) {
  const auto header = ReadHeader(file_.get());
  if (!header) {
    return std::unexpected(header.error());
  }
  if (text.size() > kMaxKeptState) {
    return MakeError(EMSGSIZE, "what is noted of the session is too long to be kept");
  }
  // Never over what is there: before it if there is room, else behind it.
  const uint32_t place =
      text.size() <= header->noted_place ? 0 : header->noted_place + header->noted_size;
  if (auto written = WriteAll(file_.get(), text, kMapped + header->state_size + place); !written) {
    return written;
  }
  const std::array<uint32_t, 2> there = {static_cast<uint32_t>(text.size()), place};
  return WriteAll(file_.get(), {reinterpret_cast<const char*>(there.data()), sizeof there},
                  offsetof(Header, noted_size));
}

Expected<std::string> Journal::Noted() const {
  const auto header = ReadHeader(file_.get());
  if (!header) {
    return std::unexpected(header.error());
  }
  return ReadPart(file_.get(), kMapped + header->state_size + header->noted_place,
                  header->noted_size);
}

std::vector<JournalSlot*> Journal::InUse() {
  const std::lock_guard lock(mutex_);
  std::vector<JournalSlot*> used;
  // Slots in pages that were never written are not looked at, which would make the pages. The state
  // behind the slots is in a page that may hold the end of the last one.
  constexpr off_t kEnd{kMapped - sizeof(JournalSlot) + 1};
  off_t at = 0;
  while ((at = lseek(file_.get(), at, SEEK_DATA)) >= 0 && at < kEnd) {
    const off_t end = lseek(file_.get(), at, SEEK_HOLE);
    const auto slots_before = [](off_t offset) {
      const auto bytes = static_cast<size_t>(std::max<off_t>(0, offset - off_t{kHeaderRoom}));
      return std::min(kJournalSlots, (bytes + sizeof(JournalSlot) - 1) / sizeof(JournalSlot));
    };
    fresh_ = std::max(fresh_, slots_before(end));
    at = end;
  }
  for (size_t i = fresh_; i > 0; --i) {
    if (slots_[i - 1].used()) {
      used.push_back(&slots_[i - 1]);
    } else {
      free_.push_back(static_cast<uint16_t>(i - 1));
    }
  }
  return used;
}

JournalSlot* Journal::Take() {
  const std::lock_guard lock(mutex_);
  size_t index = fresh_;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else if (fresh_ < kJournalSlots) {
    ++fresh_;
  } else {
    return nullptr;
  }
  slots_[index].Clear();
  return &slots_[index];
}

void Journal::Release(JournalSlot* slot) {
  if (slot == nullptr || frozen_.load()) {
    return;
  }
  const std::lock_guard lock(mutex_);
  slot->notification.id = 0;
  free_.push_back(static_cast<uint16_t>(slot - slots_));
}

void Journal::LetGo() {
  const std::lock_guard lock(mutex_);
  // Pages of this process; what is in them stays in the file.
  char* const base = reinterpret_cast<char*>(slots_) - kHeaderRoom;
  madvise(base, kMapped, MADV_DONTNEED);
  if (free_.size() != fresh_ || frozen_.load()) {
    return;
  }
  // No slot is in use: pages with nothing but slots go from the file, where a hole says the same.
  const auto page = static_cast<off_t>(sysconf(_SC_PAGESIZE));
  const off_t end = static_cast<off_t>(kMapped) / page * page;
  fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, page, end - page);
}

}  // namespace oakum::agent
