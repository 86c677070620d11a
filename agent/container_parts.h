// What all sessions of one container share.
#ifndef OAKUM_AGENT_CONTAINER_PARTS_H_
#define OAKUM_AGENT_CONTAINER_PARTS_H_

#include <memory>
#include <mutex>
#include <utility>

#include "agent/container_view.h"
#include "agent/native_unix.h"
#include "agent/proxy/carrier.h"
#include "agent/udp/carried_sockets.h"

namespace oakum::agent {

struct ContainerParts {
  // `pid`: the container's first process, 0 when unknown.
  ContainerParts(pid_t pid, std::shared_ptr<GuardedCgroups> cgroups,
                 std::shared_ptr<Carrier> carrier)
      : view(pid), native_unix(pid, std::move(cgroups)), pid_(pid), carrier_(std::move(carrier)) {}
  ~ContainerParts() {
    if (carried_ != nullptr) {
      carried_->Close();
    }
  }
  ContainerParts(const ContainerParts&) = delete;
  ContainerParts& operator=(const ContainerParts&) = delete;

  [[nodiscard]] Carrier& carrier() { return *carrier_; }
  // What its connections are carried with; made when it is first asked for, which is at the start
  // of its first session if the policy carries anything. Thread-safe.
  [[nodiscard]] const std::shared_ptr<ContainerCarrier>& carried() {
    std::call_once(made_, [this] {
      carried_ = std::make_shared<ContainerCarrier>(
          *carrier_, pid_, ParseResolvConf(view.ReadFile("/etc/resolv.conf", kMaxResolvConf)));
    });
    return carried_;
  }

  ContainerView view;
  NativeUnix native_unix;
  const std::shared_ptr<CarriedSockets> datagrams = std::make_shared<CarriedSockets>();

 private:
  const pid_t pid_;
  const std::shared_ptr<Carrier> carrier_;
  std::once_flag made_;
  std::shared_ptr<ContainerCarrier> carried_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CONTAINER_PARTS_H_
