// What all sessions of one container share.
#ifndef OAKUM_AGENT_SESSION_CONTAINER_PARTS_H_
#define OAKUM_AGENT_SESSION_CONTAINER_PARTS_H_

#include <fcntl.h>

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "agent/caller/container_view.h"
#include "agent/caller/native_unix.h"
#include "agent/proxy/carrier.h"
#include "agent/udp/carried_sockets.h"

namespace oakum::agent {

struct ContainerParts {
  // `pid`: the container's first process, 0 when unknown.
  ContainerParts(pid_t pid, std::shared_ptr<GuardedCgroups> cgroups,
                 std::shared_ptr<Carrier> carrier)
      : view(pid), native_unix(pid, std::move(cgroups)), pid_(pid), carrier_(std::move(carrier)) {}
  // As an earlier agent found it; `resolv_conf`: /etc/resolv.conf, if that one has read it.
  ContainerParts(pid_t pid, ContainerOrigin origin, std::optional<std::string> resolv_conf,
                 std::shared_ptr<GuardedCgroups> cgroups, std::shared_ptr<Carrier> carrier)
      : view(pid, std::move(origin)),
        native_unix(pid, std::move(cgroups)),
        pid_(pid),
        carrier_(std::move(carrier)),
        resolv_conf_(std::move(resolv_conf)) {}
  ~ContainerParts() {
    if (carried_ != nullptr) {
      carried_->Close();
    }
  }
  ContainerParts(const ContainerParts&) = delete;
  ContainerParts& operator=(const ContainerParts&) = delete;

  [[nodiscard]] Carrier& carrier() { return *carrier_; }
  // What its connections are carried with; made when it is first asked for, which is at the start
  // of its first session, before the container runs. Thread-safe.
  [[nodiscard]] const std::shared_ptr<ContainerCarrier>& carried() {
    std::call_once(made_, [this] {
      if (!resolv_conf_) {
        resolv_conf_ = view.ReadFile("/etc/resolv.conf", kMaxResolvConf);
      }
      carried_ =
          std::make_shared<ContainerCarrier>(*carrier_, pid_, ParseResolvConf(*resolv_conf_));
      if (names_file_) {
        carried_->names().KeepIn(UniqueFd(fcntl(names_file_.get(), F_DUPFD_CLOEXEC, 0)));
        carried_->KeepSocketsIn(UniqueFd(fcntl(names_file_.get(), F_DUPFD_CLOEXEC, 0)));
      }
    });
    return carried_;
  }
  // Has the names that it is told outlive the agent in `file` (NamesFile), and takes over those
  // that are in there: before carried() is called.
  void KeepNames(UniqueFd file) { names_file_ = std::move(file); }
  [[nodiscard]] int names_fd() const { return names_file_.get(); }
  // The resolv.conf that carried() goes by, after its first call.
  [[nodiscard]] const std::optional<std::string>& resolv_conf() const { return resolv_conf_; }

  ContainerView view;
  NativeUnix native_unix;
  const std::shared_ptr<CarriedSockets> datagrams = std::make_shared<CarriedSockets>();

 private:
  const pid_t pid_;
  const std::shared_ptr<Carrier> carrier_;
  UniqueFd names_file_;
  std::once_flag made_;
  std::optional<std::string> resolv_conf_;
  std::shared_ptr<ContainerCarrier> carried_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_CONTAINER_PARTS_H_
