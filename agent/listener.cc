#include "agent/listener.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <iterator>
#include <utility>

#include "agent/server/fair_share.h"
#include "base/shortage.h"
#include "base/trusted_path.h"

namespace oakum::agent {

namespace {

constexpr size_t kReadBytes = 65'536;
// Messages of one connection before another one has its turn.
constexpr int kReadsAtOnce = 16;
constexpr int kAcceptsAtOnce = 64;
// How long no connection is accepted when there is no descriptor or memory for one.
constexpr auto kAcceptPause = std::chrono::seconds(1);
// How long nothing is read from a connection then.
constexpr auto kReadPause = std::chrono::milliseconds(50);
constexpr rlim_t kShareOfDescriptors = 4;
constexpr size_t kFewestConnections = 16;

size_t MaxConnections() {
  rlimit limit = {};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
    return kFewestConnections;
  }
  return std::clamp<size_t>(limit.rlim_cur / kShareOfDescriptors, kFewestConnections,
                            kMaxRuntimeConnections);
}

}  // namespace

Expected<std::unique_ptr<Listener>> Listener::Create(EventLoop& loop, const std::string& path,
                                                     Attach attach, const Log& log,
                                                     std::chrono::milliseconds patience) {
  auto socket = UnixListener::Create(path, SOCK_STREAM, std::nullopt, patience);
  if (!socket) {
    return std::unexpected(std::move(socket.error()));
  }
  std::unique_ptr<Listener> listener(
      new Listener(loop, std::move(*socket), std::move(attach), log));
  auto added = loop.Add(listener->socket_.fd(), EPOLLIN,
                        [raw = listener.get()](uint32_t) { raw->AcceptAll(); });
  if (!added) {
    return std::unexpected(std::move(added.error()));
  }
  return listener;
}

Listener::Listener(EventLoop& loop, UnixListener socket, Attach attach, const Log& log)
    : loop_(loop),
      socket_(std::move(socket)),
      attach_(std::move(attach)),
      log_(log),
      buffer_(kReadBytes),
      max_connections_(MaxConnections()) {}

Listener::~Listener() {
  loop_.RemoveTimer(resume_);
  loop_.RemoveTimer(read_again_);
  loop_.Remove(socket_.fd());
  for (const auto& [fd, connection] : connections_) {
    loop_.Remove(fd);
  }
}

ListenerCounts Listener::Counts() const {
  ListenerCounts counts = counts_;
  counts.connections = connections_.size();
  return counts;
}

void Listener::AcceptAll() {
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    auto socket = Accept(socket_.fd());
    if (socket) {
      Admit(std::move(*socket));
    } else if (socket.error().code == EAGAIN) {
      return;
    } else if (socket.error().code != EINTR && socket.error().code != ECONNABORTED) {
      PauseAccepting(socket.error());
      return;
    }
  }
}

// The connection stays in the backlog, so that the loop would find it again at once.
void Listener::PauseAccepting(const Error& error) {
  log_.Error("listener {}: {}; the next attempt is in a second", socket_.path(), error.what);
  if (auto paused = loop_.Modify(socket_.fd(), 0); !paused) {
    log_.Error("listener {}: {}", socket_.path(), paused.error().what);
  }
  resume_ = loop_.AddTimer(kAcceptPause, [this] {
    if (auto resumed = loop_.Modify(socket_.fd(), EPOLLIN); !resumed) {
      log_.Error("listener {}: {}", socket_.path(), resumed.error().what);
    }
  });
}

// One more connection is allowed, if need be in the place of one that has nothing left to say, or
// whose user or process has more than its share.
bool Listener::MakeRoomFor(const Peer& newcomer) {
  if (connections_.size() < max_connections_) {
    return true;
  }
  if (!done_.empty()) {
    Close(done_.front());
    return true;
  }
  std::vector<Place> places;
  places.reserve(connections_.size());
  for (const auto& [fd, connection] : connections_) {
    places.push_back({fd, connection.peer, connection.progress});
  }
  const auto fd = PlaceFor(newcomer, places);
  if (!fd) {
    return false;
  }
  ++counts_.evicted;
  const Peer& peer = connections_.at(*fd).peer;
  if (const auto more = evictions_.Ask(EventLoop::Clock::now()); more) {
    log_.Error(
        "listener {}: a connection of process {} (user {}) is closed: there are {}, most of "
        "them its own{}",
        socket_.path(), peer.pid, peer.uid, connections_.size(), *more);
  }
  Close(*fd);
  return true;
}

void Listener::Refuse(std::string_view what) {
  ++counts_.refused;
  if (const auto more = refusals_.Ask(EventLoop::Clock::now()); more) {
    log_.Error("listener {}: a connection is refused: {}{}", socket_.path(), what, *more);
  }
}

void Listener::Admit(UniqueFd socket) {
  const auto peer = PeerOf(socket.get());
  if (!peer || !IsRootOrSelf(peer->uid)) {
    Refuse(peer ? fmt::format("user {} is neither root nor the agent's own", peer->uid)
                : peer.error().what);
    return;
  }
  if (!MakeRoomFor(*peer)) {
    Refuse(fmt::format("{} are open already", connections_.size()));
    return;
  }
  const int fd = socket.get();
  if (auto added = Watch(fd); !added) {
    Refuse(added.error().what);
    return;
  }
  ++counts_.accepted;
  Connection& connection = connections_[fd];
  connection.socket = std::move(socket);
  connection.peer = *peer;
  connection.progress = EventLoop::Clock::now();
}

Expected<void> Listener::Watch(int fd) {
  return loop_.Add(fd, EPOLLIN, [this, fd](uint32_t) { Read(fd); });
}

void Listener::ReadLater(int fd) {
  loop_.Remove(fd);
  later_.insert(fd);
  if (read_again_ != EventLoop::TimerId::kNone) {
    return;
  }
  log_.Error("listener {}: no room for another container's descriptors; it waits", socket_.path());
  read_again_ = loop_.AddTimer(kReadPause, [this] {
    read_again_ = EventLoop::TimerId::kNone;
    for (const int each : std::exchange(later_, {})) {
      if (auto watched = Watch(each); !watched) {
        Fail(each, watched.error().what);
      }
    }
  });
}

void Listener::Read(int fd) {
  const auto found = connections_.find(fd);
  if (found == connections_.end()) {
    return;
  }
  for (int i = 0; i < kReadsAtOnce && ReadOnce(fd, found->second); ++i) {
  }
}

bool Listener::ReadOnce(int fd, Connection& connection) {
  auto received = HasRoomForMessage() ? ReceiveWhole(fd, buffer_)
                                      : Expected<ReceivedMessage>(MakeError(EMFILE, "no room"));
  if (!received) {
    if (IsShortage(received.error().code)) {
      ReadLater(fd);
      return false;
    }
    if (received.error().code == EAGAIN || received.error().code == EINTR) {
      return false;
    }
    Fail(fd, received.error().what);
    return false;
  }
  if (received->bytes == 0 && received->fds.empty()) {
    if (connection.position) {
      Close(fd);
    } else if (connection.bytes == 0 && connection.fds.empty()) {
      // What oakum-hook and oakum-runtime do to see whether an agent is there.
      log_.Debug("listener {}: a connection was closed with nothing sent", socket_.path());
      Close(fd);
    } else {
      Fail(fd, "the connection was closed in the middle");
    }
    return false;
  }
  connection.bytes += received->bytes;
  connection.progress = EventLoop::Clock::now();
  std::ranges::move(received->fds, std::back_inserter(connection.fds));
  if (auto taken = Take(connection, {buffer_.data(), received->bytes}); !taken) {
    Fail(fd, taken.error().what);
    return false;
  }
  Count(connection, connection.framer.size(), connection.fds.size());
  if (pending_bytes_ > kMaxPendingStateBytes) {
    Fail(Heaviest([](const Connection& one) { return one.counted_bytes; }),
         "all states that are not complete are too long together, and this one is the longest");
  } else if (pending_fds_ > kMaxPendingDescriptors) {
    Fail(Heaviest([](const Connection& one) { return one.counted_fds; }),
         "all states that are not complete have too many descriptors together, and this one most");
  }
  return connections_.contains(fd);
}

void Listener::Count(Connection& connection, size_t bytes, size_t fds) {
  pending_bytes_ += bytes - std::exchange(connection.counted_bytes, bytes);
  pending_fds_ += fds - std::exchange(connection.counted_fds, fds);
}

int Listener::Heaviest(size_t (*weight)(const Connection&)) const {
  return std::ranges::max_element(connections_, {},
                                  [&](const auto& entry) { return weight(entry.second); })
      ->first;
}

Expected<void> Listener::Take(Connection& connection, std::string_view piece) {
  if (connection.position) {
    if (!connection.fds.empty() || connection.bytes > kMaxStateBytes ||
        piece.find_first_not_of(" \t\r\n") != std::string_view::npos) {
      return MakeError(EPROTO, "something follows the container process state");
    }
    return {};
  }
  if (connection.fds.size() > kMaxStateDescriptors) {
    return MakeError(EPROTO, fmt::format("more than {} descriptors", kMaxStateDescriptors));
  }
  auto text = connection.framer.Feed(piece);
  if (!text) {
    return std::unexpected(std::move(text.error()));
  }
  if (!*text) {
    return {};
  }
  return Deliver(connection, **text);
}

Expected<void> Listener::Deliver(Connection& connection, std::string_view text) {
  const auto state = oci::ParseContainerProcessState(text);
  if (!state) {
    return std::unexpected(state.error());
  }
  auto notify = oci::TakeSeccompFd(state->fd_names, connection.fds);
  if (!notify) {
    return std::unexpected(
        std::move(notify.error()).Context(fmt::format("container {}", Escape(state->id))));
  }
  connection.fds.clear();
  ++counts_.attached;
  connection.position = done_.insert(done_.end(), connection.socket.get());
  if (auto attached = attach_(*state, std::move(*notify)); !attached) {
    log_.Error("container {}: {}", Escape(state->id), attached.error().what);
  }
  return {};
}

void Listener::Fail(int fd, std::string_view what) {
  const Connection& connection = connections_.at(fd);
  if (!connection.position) {
    ++counts_.failed;
  }
  if (const auto more = failures_.Ask(EventLoop::Clock::now()); more) {
    log_.Error("listener {}: {} (after {} bytes and {} descriptors); the connection is closed{}",
               socket_.path(), what, connection.bytes, connection.fds.size(), *more);
  }
  Close(fd);
}

void Listener::Close(int fd) {
  loop_.Remove(fd);
  later_.erase(fd);
  const auto found = connections_.find(fd);
  Count(found->second, 0, 0);
  if (found->second.position) {
    done_.erase(*found->second.position);
  }
  connections_.erase(found);
}

}  // namespace oakum::agent
