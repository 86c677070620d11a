#include "agent/proxy/held_spare.h"

#include <fcntl.h>

#include <utility>

#include "agent/proxy/netns.h"

namespace oakum::agent {

std::optional<HeldSocket> HeldSpare::Take(uint64_t netns, int domain, int net_fd) {
  std::optional<HeldSocket> taken;
  if (netns == 0) {
    return taken;
  }
  wanted_ = true;
  if (netns_ == netns && domain_ == domain) {
    if (spare_) {
      taken.emplace(std::move(*spare_));
      spare_.reset();
    }
    return taken;
  }
  spare_.reset();
  net_.Reset(net_fd >= 0 ? fcntl(net_fd, F_DUPFD_CLOEXEC, 0) : -1);
  netns_ = net_fd >= 0 && !net_ ? 0 : netns;
  domain_ = domain;
  return taken;
}

void HeldSpare::Refill(OwnPorts& ports) {
  if (!std::exchange(wanted_, false) || spare_ || netns_ == 0) {
    return;
  }
  (void)WithNetwork(net_.get(), [&] {
    if (auto made = HeldSocket::Create(domain_, ports); made) {
      spare_.emplace(std::move(*made));
    }
  });
}

}  // namespace oakum::agent
