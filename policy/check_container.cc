#include "policy/check_container.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "policy/suggest.h"

namespace oakum::policy {

namespace {

using Word = std::string_view;
using syntax::Text;

constexpr std::array kEngines = {Word("podman"), Word("docker"), Word("containerd"), Word("cri-o")};

std::optional<std::string> CheckPattern(const std::optional<Text>& text, CheckContext& context) {
  if (!text) {
    return std::nullopt;
  }
  if (text->value.empty() || text->value.size() > kMaxPatternLength) {
    context.Say(text->at, fmt::format("a pattern has 1 to {} bytes; \"*\" matches everything",
                                      kMaxPatternLength));
  }
  return std::string(text->value);
}

std::vector<KeyPattern> CheckPatterns(std::span<const std::pair<Text, Text>> patterns,
                                      CheckContext& context) {
  std::vector<KeyPattern> checked;
  for (const auto& [key, pattern] : patterns) {
    if (key.value.empty()) {
      context.Say(key.at, "an empty key");
    }
    checked.push_back({.key = std::string(key.value), .pattern = *CheckPattern(pattern, context)});
  }
  return checked;
}

void CheckReference(const syntax::ContainerRule& rule, std::span<const Word> policies,
                    CheckContext& context, CheckedContainerRule& checked) {
  const Text& reference = rule.policy;
  if (reference.at.offset == rule.at.offset) {
    return;  // absent or no string, and said so
  }
  if (reference.value.starts_with('$')) {
    const Word key = reference.value.substr(1);
    std::vector<Word> keys;
    keys.reserve(checked.annotations.size());
    for (const KeyPattern& annotation : checked.annotations) {
      keys.emplace_back(annotation.key);
    }
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      const Word near = Nearest(key, keys);
      context.Say(
          reference.at,
          fmt::format("\"{}\" takes the policy from an annotation that \"match\" does not ask "
                      "for; {}",
                      Escape(reference.value),
                      near.empty()
                          ? fmt::format("write \"match\": {{\"annotation\": {{\"{}\": \"*\"}}}}",
                                        Escape(key))
                          : fmt::format("did you mean \"${}\"?", near)));
    }
    checked.policy_annotation = key;
    return;
  }
  if (std::find(policies.begin(), policies.end(), reference.value) == policies.end()) {
    context.Say(reference.at, fmt::format("there is no policy \"{}\"{}", Escape(reference.value),
                                          DidYouMean(reference.value, policies)));
  }
  checked.policy = reference.value;
}

}  // namespace

CheckedContainerRule CheckContainerRule(const syntax::ContainerRule& rule,
                                        std::span<const std::string_view> policies,
                                        CheckContext& context) {
  CheckedContainerRule checked;
  checked.place = context.PlaceOf(rule.at);
  checked.annotations = CheckPatterns(rule.match.annotations, context);
  checked.labels = CheckPatterns(rule.match.labels, context);
  checked.name = CheckPattern(rule.match.name, context);
  checked.image = CheckPattern(rule.match.image, context);
  checked.ns = CheckPattern(rule.match.ns, context);
  checked.pod = CheckPattern(rule.match.pod, context);
  checked.id = CheckPattern(rule.match.id, context);
  checked.engine = CheckPattern(rule.match.engine, context);
  if (checked.engine && checked.engine->find_first_of("*?") == std::string::npos) {
    (void)context.Choose(rule.match.engine, "engine", kEngines);
  }
  CheckReference(rule, policies, context, checked);
  return checked;
}

}  // namespace oakum::policy
