#include "agent/session/kept_sessions.h"

#include <chrono>
#include <utility>

#include "agent/session/adoption.h"

namespace oakum::agent {

std::optional<KeptSession> KeptSessions::Keep(uint64_t number,
                                              const oci::ContainerProcessState& state,
                                              const EventSource& source, int listener_fd,
                                              int init_pidfd, const ContainerParts& parts) {
  if (store_ == nullptr) {
    return std::nullopt;
  }
  KeptState kept;
  kept.container = state;
  kept.policy = source.policy_name;
  kept.attached_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                         std::chrono::system_clock::now().time_since_epoch())
                         .count();
  kept.resolv_conf = parts.resolv_conf();
  const auto origin = parts.view.Origin();
  auto session = MakeKept(std::move(kept), origin);
  if (!session) {
    log_.Warning("container {}: {}; its calls will fail when this agent ends", Escape(state.id),
                 session.error().ToString());
    return std::nullopt;
  }
  const int root_fd = origin ? origin->root.get() : -1;
  if (auto handed = HandOver(*store_, *session, listener_fd, init_pidfd, root_fd, parts.names_fd());
      !handed) {
    log_.Warning("container {}: {}; until that is done its calls fail when this agent ends",
                 Escape(state.id), handed.error().ToString());
    to_keep_.insert(number);
  }
  return std::move(*session);
}

void KeptSessions::Forget(const SessionCore& core) {
  if (const std::string name = core.kept_name(); store_ != nullptr && !name.empty()) {
    store_->Forget(name);
  }
}

void KeptSessions::NotAdopted(const std::string& name, const Error& error) {
  if (IsPassing(error)) {
    log_.Error(
        "what was kept as {} stays there: {}; its calls wait until an agent is started that has "
        "the room",
        name, error.ToString());
    return;
  }
  log_.Error("what was kept as {} cannot be gone on with: {}", name, error.ToString());
  if (store_ != nullptr) {
    store_->Forget(name);
  }
}

size_t KeptSessions::KeepRest(const std::function<const SessionCore*(uint64_t)>& find) {
  while (!to_keep_.empty()) {
    const SessionCore* const core = find(*to_keep_.begin());
    if (core != nullptr && !HandOverAgain(*core)) {
      break;
    }
    to_keep_.erase(to_keep_.begin());
  }
  return to_keep_.size();
}

bool KeptSessions::HandOverAgain(const SessionCore& core) const {
  const KeptSession* kept = core.kept();
  if (store_ == nullptr || kept == nullptr) {
    return true;
  }
  const auto origin = core.container()->view.Origin();
  const auto handed = HandOver(*store_, *kept, core.notify().fd(), core.init_pidfd().get(),
                               origin ? origin->root.get() : -1, core.container()->names_fd());
  return handed.has_value();
}

}  // namespace oakum::agent
