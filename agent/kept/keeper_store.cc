#include "agent/kept/keeper_store.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <optional>
#include <thread>
#include <utility>

#include "agent/kept/keeper_line.h"
#include "agent/kept/keeper_protocol.h"
#include "agent/kept/keeper_spawner.h"
#include "agent/server/unix_socket.h"
#include "base/trusted_path.h"

namespace oakum::agent {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kBetweenTries{5};
// A keeper answers at once; one that is being started takes a moment on a busy machine.
constexpr std::chrono::seconds kAnswersWithin{10};
constexpr std::chrono::milliseconds kBetweenSpawns{200};

Expected<UniqueFd> Connect(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return MakeError(ENAMETOOLONG, fmt::format("keeper {}: the path is too long", path));
  }
  memcpy(address.sun_path, path.data(), path.size());
  UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!socket) {
    return ErrnoError("socket");
  }
  const timeval limit = {kAnswersWithin.count(), 0};
  (void)setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  if (connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return ErrnoError(fmt::format("keeper {}", path));
  }
  if (const auto peer = PeerOf(socket.get()); !peer || !IsRootOrSelf(peer->uid)) {
    return MakeError(EPERM, fmt::format("keeper {}: it is another user's", path));
  }
  return socket;
}

// Nothing when this keeper ends, or serves another agent.
Expected<std::optional<ServingKeeper>> Ask(const std::string& path, UniqueFd socket, bool& busy) {
  busy = false;
  if (!SendToPeer(socket.get(), KeeperWord::kHello, {}, {}, 0)) {
    return std::nullopt;
  }
  ServingKeeper opened;
  for (;;) {
    auto message = ReceiveFromPeer(socket.get());
    if (!message && message.error().code == EAGAIN) {
      return MakeError(ETIMEDOUT, fmt::format("keeper {}: it does not answer", path));
    }
    if (!message && message.error().code != ECONNRESET) {
      return std::unexpected(std::move(message.error()).Context("keeper " + path));
    }
    if (!message || !*message) {
      return std::nullopt;
    }
    if ((*message)->version != kKeeperVersion) {
      return MakeError(ENOTSUP, fmt::format("keeper {}: it speaks version {}, this agent version "
                                            "{}: start an agent of its kind",
                                            path, (*message)->version, kKeeperVersion));
    }
    switch ((*message)->word) {
      case KeeperWord::kItem:
        opened.items.push_back({std::move((*message)->name), std::move((*message)->fds)});
        break;
      case KeeperWord::kReady:
        opened.socket = std::move(socket);
        return opened;
      case KeeperWord::kBusy:
        busy = true;
        return std::nullopt;
      case KeeperWord::kHello:
      case KeeperWord::kKeep:
      case KeeperWord::kForget:
        return MakeError(EPROTO, fmt::format("keeper {}: it speaks like an agent", path));
    }
  }
}

// A keeper is started where there is none, if there is who does that.
Expected<ServingKeeper> Find(const std::string& agent_socket, KeeperSpawner* spawner,
                             std::chrono::milliseconds patience) {
  const std::string path = KeeperPath(agent_socket);
  const Clock::time_point start = Clock::now();
  Clock::time_point next_spawn = start;
  for (;;) {
    bool busy = false;
    auto socket = Connect(path);
    if (socket) {
      auto opened = Ask(path, std::move(*socket), busy);
      if (!opened) {
        return std::unexpected(std::move(opened.error()));
      }
      if (*opened) {
        return std::move(**opened);
      }
    } else if ((socket.error().code != ECONNREFUSED && socket.error().code != ENOENT) ||
               spawner == nullptr) {
      return std::unexpected(std::move(socket.error()));
    } else if (Clock::now() >= next_spawn) {
      if (auto spawned = spawner->Spawn(); !spawned) {
        return std::unexpected(std::move(spawned.error()));
      }
      next_spawn = Clock::now() + kBetweenSpawns;
    }
    const auto waited = Clock::now() - start;
    if (busy && waited > patience) {
      return MakeError(EADDRINUSE, fmt::format("keeper {}: another agent listens there", path));
    }
    if (waited > kAnswersWithin) {
      return MakeError(ETIMEDOUT, fmt::format("keeper {}: it could not be started", path));
    }
    std::this_thread::sleep_for(kBetweenTries);
  }
}

class KeeperStore final : public FdStore {
 public:
  KeeperStore(std::string agent_socket, std::shared_ptr<KeeperSpawner> spawner, UniqueFd socket)
      : agent_socket_(std::move(agent_socket)),
        spawner_(std::move(spawner)),
        line_(std::move(socket)) {}

  Expected<void> Keep(const std::string& name, std::span<const int> fds) override {
    return line_.Keep(name, fds);
  }
  Expected<void> TryKeep(const std::string& name, std::span<const int> fds) override {
    return line_.TryKeep(name, fds);
  }
  void Forget(const std::string& name) override { line_.Forget(name); }
  bool KeepsAtOnce() const override { return true; }
  int lost_fd() const override { return line_.fd(); }
  Expected<void> Renew() override {
    auto found = Find(agent_socket_, spawner_.get(), {});
    if (!found) {
      return std::unexpected(std::move(found.error()));
    }
    line_.Reset(std::move(found->socket));
    return {};
  }

 private:
  const std::string agent_socket_;
  const std::shared_ptr<KeeperSpawner> spawner_;
  KeeperLine line_;
};

}  // namespace

Expected<ServingKeeper> FindKeeper(const std::string& agent_socket,
                                   std::chrono::milliseconds patience) {
  return Find(agent_socket, nullptr, patience);
}

Expected<OpenedStore> OpenKeeperStore(const std::string& agent_socket,
                                      std::shared_ptr<KeeperSpawner> spawner,
                                      std::chrono::milliseconds patience) {
  auto found = Find(agent_socket, spawner.get(), patience);
  if (!found) {
    return std::unexpected(std::move(found.error()));
  }
  OpenedStore opened;
  opened.store =
      std::make_unique<KeeperStore>(agent_socket, std::move(spawner), std::move(found->socket));
  opened.items = std::move(found->items);
  return opened;
}

}  // namespace oakum::agent
