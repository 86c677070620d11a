// Which policy a container is under: what its runtime has said of it, and the policies of now.
#ifndef OAKUM_AGENT_SESSION_CONTAINER_POLICIES_H_
#define OAKUM_AGENT_SESSION_CONTAINER_POLICIES_H_

#include <memory>
#include <string>
#include <utility>

#include "agent/caller/filter_check.h"
#include "agent/events/event.h"
#include "oci/container_state.h"
#include "policy/policy_set.h"

namespace oakum::agent {

// Not thread-safe.
class ContainerPolicies {
 public:
  // Null: there are none, and all that is asked for has no policy, which denies.
  explicit ContainerPolicies(std::shared_ptr<const policy::PolicySet> policies)
      : policies_(std::move(policies)) {}

  // From here on these hold.
  void Set(std::shared_ptr<const policy::PolicySet> policies);
  // A container by the state that its runtime has handed over: under the policy that its filter was
  // made for (listenerMetadata); where that is not said, under the one that the rules for
  // containers choose.
  [[nodiscard]] std::shared_ptr<EventSource> SourceOf(const oci::ContainerProcessState& state);
  // The same container under the policy of that name, as it is now.
  [[nodiscard]] std::shared_ptr<EventSource> Renew(const EventSource& source,
                                                   const std::string& policy_name);

 private:
  // Kept alive by its set; null when there is none.
  [[nodiscard]] std::shared_ptr<const policy::Policy> Find(const std::string& name) const;

  std::shared_ptr<const policy::PolicySet> policies_;
  FilterCheck filters_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_CONTAINER_POLICIES_H_
