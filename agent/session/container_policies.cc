#include "agent/session/container_policies.h"

#include <cerrno>
#include <utility>

#include "base/error.h"
#include "policy/container.h"
#include "policy/filter_record.h"

namespace oakum::agent {

void ContainerPolicies::Set(std::shared_ptr<const policy::PolicySet> policies) {
  policies_ = std::move(policies);
  filters_.Forget();
}

std::shared_ptr<const policy::Policy> ContainerPolicies::Find(const std::string& name) const {
  const policy::Policy* found = policies_ != nullptr ? policies_->Find(name) : nullptr;
  return found != nullptr ? std::shared_ptr<const policy::Policy>(policies_, found) : nullptr;
}

std::shared_ptr<EventSource> ContainerPolicies::SourceOf(const oci::ContainerProcessState& state) {
  auto source = std::make_shared<EventSource>();
  source->container_id = state.id;
  auto metadata = policy::DecodeListenerMetadata(state.metadata);
  if (metadata) {
    if (metadata->filter) {
      source->filter = std::make_shared<policy::FilterRecord>(std::move(*metadata->filter));
    }
    source->facts = std::move(metadata->facts);
    source->policy_name = std::move(metadata->policy);
  } else {
    // A profile that somebody wrote by hand: the container rules decide, on what is known.
    source->facts.id = state.id;
    source->facts.annotations = state.annotations;
    const auto matched = policies_ != nullptr
                             ? policies_->Match(source->facts)
                             : Expected<const policy::Policy*>(MakeError(ENOENT, ""));
    if (matched) {
      source->policy_name = (*matched)->name();
    }
  }
  source->policy = Find(source->policy_name);
  filters_.Fill(*source, metadata.has_value());
  return source;
}

std::shared_ptr<EventSource> ContainerPolicies::Renew(const EventSource& source,
                                                      const std::string& policy_name) {
  auto renewed = std::make_shared<EventSource>(source);
  renewed->policy_name = policy_name;
  renewed->policy = Find(policy_name);
  filters_.Fill(*renewed, false);
  return renewed;
}

}  // namespace oakum::agent
