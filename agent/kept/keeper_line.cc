#include "agent/kept/keeper_line.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <utility>

#include "agent/kept/keeper_protocol.h"

namespace oakum::agent {

namespace {

// A keeper that many sessions have begun and ended for is behind for a moment.
constexpr int kTakesWithinMs = 100;
// What is to be forgotten and the keeper has no room to hear of yet.
constexpr size_t kMaxUnsaid = 16'384;

}  // namespace

Expected<void> KeeperLine::Keep(const std::string& name, std::span<const int> fds) {
  const std::lock_guard lock(mutex_);
  SayTheRest();
  auto sent = SendToPeer(socket_.get(), KeeperWord::kKeep, name, fds, MSG_DONTWAIT);
  pollfd room = {socket_.get(), POLLOUT, 0};
  if (!sent && sent.error().code == EAGAIN && poll(&room, 1, kTakesWithinMs) == 1) {
    sent = SendToPeer(socket_.get(), KeeperWord::kKeep, name, fds, MSG_DONTWAIT);
  }
  return sent ? std::move(sent)
              : std::unexpected(std::move(sent.error()).Context("hand over to the keeper"));
}

Expected<void> KeeperLine::TryKeep(const std::string& name, std::span<const int> fds) {
  const std::lock_guard lock(mutex_);
  SayTheRest();
  return unsaid_.empty() ? SendToPeer(socket_.get(), KeeperWord::kKeep, name, fds, MSG_DONTWAIT)
                         : MakeError(EAGAIN, "the keeper is behind");
}

void KeeperLine::Forget(const std::string& name) {
  const std::lock_guard lock(mutex_);
  SayTheRest();
  // One beyond that is not missed: the keeper hears its listener hang up.
  if (unsaid_.size() < kMaxUnsaid) {
    unsaid_.push_back(name);
    SayTheRest();
  }
}

int KeeperLine::fd() const {
  const std::lock_guard lock(mutex_);
  return socket_.get();
}

void KeeperLine::Reset(UniqueFd socket) {
  const std::lock_guard lock(mutex_);
  socket_ = std::move(socket);
  unsaid_.clear();
}

void KeeperLine::SayTheRest() {
  while (!unsaid_.empty() &&
         SendToPeer(socket_.get(), KeeperWord::kForget, unsaid_.front(), {}, MSG_DONTWAIT)) {
    unsaid_.pop_front();
  }
}

}  // namespace oakum::agent
