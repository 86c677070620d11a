// What is known of a container when its policy is chosen.
#ifndef OAKUM_POLICY_CONTAINER_H_
#define OAKUM_POLICY_CONTAINER_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "policy/filter_record.h"

namespace oakum::policy {

// Facts that the engine wrote, empty where it did not. docs/matching.md says which engine sets
// what.
struct ContainerFacts {
  std::string engine;  // "podman", "docker", "containerd", "cri-o" or empty
  std::string id;      // the engine's container id
  std::string name;    // without a leading slash
  std::string image;   // with registry where the engine gives it
  std::string ns;      // Kubernetes namespace
  std::string pod;     // Kubernetes pod name
  std::map<std::string, std::string> labels;
  std::map<std::string, std::string> annotations;
  // What the engine knows but did not hand over ("name", "image", "label"), and why: a rule that
  // asks for it refuses the container rather than passing it by.
  std::map<std::string, std::string> unknown;

  bool operator==(const ContainerFacts&) const = default;
};

// `listenerMetadata`: how hook/ hands the chosen policy and the facts to agent/, through the
// runtime. A JSON object {"oakum": 1, "policy": ..., "engine": ..., ...}; labels and annotations
// are left out (the agent's events do not show them). Keys that are not known are passed over: they
// are a later version's.
struct ListenerMetadata {
  std::string policy;  // name of the policy that the filter was planned for
  ContainerFacts facts;
  // What the filter does; nothing when an earlier version wrote it. {"filter": {"SCOPE.ACTION":
  // "connect bind ...", ...}}
  std::optional<FilterRecord> filter = {};
};
[[nodiscard]] std::string EncodeListenerMetadata(const ListenerMetadata& metadata);
// Errors: EINVAL when it is not ours or malformed.
[[nodiscard]] Expected<ListenerMetadata> DecodeListenerMetadata(std::string_view text);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_CONTAINER_H_
