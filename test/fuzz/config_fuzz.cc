// A container's config.json, of which whoever starts the container writes parts.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "oci/config.h"
#include "oci/json.h"
#include "policy/plan.h"
#include "policy/policy_set.h"

namespace {

using oakum::Expected;
using oakum::oci::ConfigDocument;
using oakum::oci::ConfigFacts;
using oakum::oci::ListenerConfig;
using oakum::oci::SeccompPlan;

SeccompPlan MakePlan() {
  const auto set = oakum::policy::PolicySet::Parse(
      R"({"version": 1, "policies": {"p": {"mode": "enforce", "outgoing": {"default": "deny"},
          "incoming": {"default": "deny"}, "unix": {"default": "deny"}}},
          "containers": [{"match": {}, "policy": "p"}]})",
      "fuzz");
  if (!set) {
    abort();
  }
  return oakum::policy::Plan(*(*set)->Find("p"));
}

Expected<ConfigFacts> ReadConfigFacts(std::string_view text) {
  const auto document = ConfigDocument::Parse(text);
  return document ? document->Facts() : std::unexpected(document.error());
}

Expected<std::string> EditConfig(std::string_view text, const SeccompPlan& plan,
                                 const ListenerConfig& listener) {
  auto document = ConfigDocument::Parse(text);
  if (!document) {
    return std::unexpected(document.error());
  }
  const auto section = document->MergeSeccomp(plan, listener);
  return section ? document->ReplaceSeccomp(*section)
                 : Expected<std::string>(std::unexpected(section.error()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const SeccompPlan plan = MakePlan();
  const ListenerConfig listener = {.path = "/run/oakum/agent.sock", .metadata = "{}", .flags = {}};
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto facts = ReadConfigFacts(text);
  const auto edited = EditConfig(text, plan, listener);
  if (!edited) {
    if (edited.error().code == 0 || edited.error().what.empty()) {
      __builtin_trap();
    }
    return 0;
  }
  // What was edited is a config.json with our listener, and editing it again changes nothing.
  const auto after = ReadConfigFacts(*edited);
  auto document = ConfigDocument::Parse(*edited);
  const auto path = document ? document->ListenerPath() : std::unexpected(document.error());
  if (facts && (!after || path != listener.path)) {
    __builtin_trap();
  }
  // The text of the section is part of the whole only where the whole is JSON.
  if (!oakum::oci::ParseJson(text, "text") || !oakum::oci::ParseJson(*edited, "edited")) {
    __builtin_trap();
  }
  const auto again = EditConfig(*edited, plan, listener);
  if (!again || *again != *edited) {
    __builtin_trap();
  }
  return 0;
}
