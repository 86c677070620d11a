#include "agent/proxy/held_spare.h"

#include <fcntl.h>

#include <algorithm>
#include <utility>

#include "agent/caller/netns.h"

namespace oakum::agent {

std::optional<HeldSocket> HeldSpare::Take(uint64_t netns, int domain, int net_fd) {
  std::optional<HeldSocket> taken;
  if (netns == 0) {
    return taken;
  }
  if (netns_ == netns && domain_ == domain) {
    if (!spare_.empty()) {
      taken.emplace(std::move(spare_.back()));
      spare_.pop_back();
    }
    wanted_ = spare_.empty();
    return taken;
  }
  wanted_ = true;
  at_once_ = 1;
  spare_.clear();
  net_.Reset(net_fd >= 0 ? fcntl(net_fd, F_DUPFD_CLOEXEC, 0) : -1);
  netns_ = net_fd >= 0 && !net_ ? 0 : netns;
  domain_ = domain;
  return taken;
}

void HeldSpare::Refill(OwnPorts& ports) {
  if (!std::exchange(wanted_, false) || netns_ == 0) {
    return;
  }
  (void)WithNetwork(net_.get(), [&] {
    if (auto made = HeldSocket::CreateSome(at_once_, domain_, ports); made) {
      spare_ = std::move(*made);
      at_once_ = std::min(at_once_ * 2, HeldSocket::kMaxAtOnce);
    }
  });
}

}  // namespace oakum::agent
