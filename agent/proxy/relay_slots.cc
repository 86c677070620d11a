#include "agent/proxy/relay_slots.h"

#include <sys/resource.h>

namespace oakum::agent {

namespace {

constexpr size_t kDescriptorsOfSlot = 8;
constexpr size_t kUnknownLimit = 1024;

}  // namespace

size_t RelaySlots::MaxByLimit() {
  rlimit limit = {};
  return (getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : kUnknownLimit) /
         kDescriptorsOfSlot;
}

RelaySlot::~RelaySlot() {
  if (share_ != nullptr) {
    share_->GiveBack();
  }
}

std::shared_ptr<RelayShare> RelayShare::Create(RelaySlots& all) {
  return std::shared_ptr<RelayShare>(new RelayShare(all));
}

std::optional<RelaySlot> RelayShare::Take() {
  const std::lock_guard lock(all_.mutex_);
  const bool has_more = all_.taken_ < all_.max_ && taken_ < all_.max_ / 2;
  if (taken_ >= RelaySlots::kAlways && !has_more) {
    return std::nullopt;
  }
  ++taken_;
  ++all_.taken_;
  return RelaySlot(shared_from_this());
}

void RelayShare::GiveBack() {
  const std::lock_guard lock(all_.mutex_);
  --taken_;
  --all_.taken_;
}

}  // namespace oakum::agent
