// What all sessions of one container share.
#ifndef OAKUM_AGENT_CONTAINER_PARTS_H_
#define OAKUM_AGENT_CONTAINER_PARTS_H_

#include <memory>
#include <utility>

#include "agent/container_view.h"
#include "agent/native_unix.h"
#include "agent/udp/carried_sockets.h"

namespace oakum::agent {

struct ContainerParts {
  // `pid`: the container's first process, 0 when unknown.
  ContainerParts(pid_t pid, std::shared_ptr<GuardedCgroups> cgroups)
      : view(pid), native_unix(pid, std::move(cgroups)) {}

  ContainerView view;
  NativeUnix native_unix;
  CarriedSockets datagrams;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CONTAINER_PARTS_H_
