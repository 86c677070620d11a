#include "agent/proxy/kept_connection.h"

#include <utility>

#include "agent/proxy/kept_names.h"
#include "agent/session/session_core.h"

namespace oakum::agent {

KeptConnection::KeptConnection(KeptRelays& all, std::string name, RelaySlot slot)
    : all_(&all), name_(std::move(name)), slot_(std::move(slot)) {}

KeptConnection::KeptConnection(KeptConnection&& other) noexcept
    : all_(std::exchange(other.all_, nullptr)),
      name_(std::move(other.name_)),
      slot_(std::move(other.slot_)) {}

KeptConnection& KeptConnection::operator=(KeptConnection&& other) noexcept {
  KeptConnection taken(std::move(other));
  std::swap(all_, taken.all_);
  std::swap(name_, taken.name_);
  std::swap(slot_, taken.slot_);
  return *this;
}

KeptConnection::~KeptConnection() {
  if (all_ != nullptr) {
    all_->LetGo(name_);
  }
}

KeptRelays::Result KeptConnection::Keep(ContainerCarrier& container,
                                        const std::weak_ptr<SessionCore>& session,
                                        const std::function<std::string(uint64_t)>& name,
                                        const std::function<std::optional<KeptEnds>()>& ends) {
  const auto core = session.lock();
  if (all_ != nullptr || core == nullptr || core->kept() == nullptr) {
    return KeptRelays::Result::kNever;
  }
  auto slot = container.TakeKeptSlot();
  if (!slot) {
    return KeptRelays::Result::kNever;
  }
  const auto open = ends();
  if (!open) {
    return KeptRelays::Result::kLater;
  }
  KeptRelays& all = container.carrier().kept_relays();
  std::string own = name(SessionOfName(core->kept()->name));
  const auto result = all.Keep(own, session, *open);
  if (result == KeptRelays::Result::kKept) {
    *this = KeptConnection(all, std::move(own), std::move(*slot));
  }
  return result;
}

void KeptConnection::Forget() {
  if (KeptRelays* const all = std::exchange(all_, nullptr); all != nullptr) {
    all->Forget(name_);
    slot_ = RelaySlot();
  }
}

}  // namespace oakum::agent
