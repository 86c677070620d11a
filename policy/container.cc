#include "policy/container.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "policy/jsonc.h"

namespace oakum::policy {

namespace {

constexpr std::string_view kMetadataName = "listenerMetadata";
constexpr std::string_view kVersionKey = "oakum";
constexpr std::string_view kFilterKey = "filter";

using Field = std::pair<std::string_view, std::string ContainerFacts::*>;
constexpr std::array<Field, 6> kFields = {{{"engine", &ContainerFacts::engine},
                                           {"id", &ContainerFacts::id},
                                           {"name", &ContainerFacts::name},
                                           {"image", &ContainerFacts::image},
                                           {"namespace", &ContainerFacts::ns},
                                           {"pod", &ContainerFacts::pod}}};

// Nothing when it is not what this version writes: then it is not known what the filter does.
std::optional<FilterRecord> ReadFilter(const jsonc::Value& value) {
  if (value.kind != jsonc::Kind::kObject) {
    return std::nullopt;
  }
  FilterRecord record;
  for (const jsonc::Member& member : value.members) {
    if (member.value.kind != jsonc::Kind::kString) {
      return std::nullopt;
    }
    for (std::string_view rest = member.value.text; !rest.empty();) {
      const std::string_view name = rest.substr(0, rest.find(' '));
      rest.remove_prefix(std::min(name.size() + 1, rest.size()));
      record.calls.insert_or_assign(std::string(name), std::string(member.key));
    }
  }
  return record;
}

}  // namespace

std::string EncodeListenerMetadata(const ListenerMetadata& metadata) {
  nlohmann::ordered_json json;
  json[kVersionKey] = 1;
  json["policy"] = metadata.policy;
  for (const auto& [key, member] : kFields) {
    if (!(metadata.facts.*member).empty()) {
      json[key] = metadata.facts.*member;
    }
  }
  if (metadata.filter) {
    auto& filter = json[kFilterKey] = nlohmann::ordered_json::object();
    for (const auto& [name, treatment] : metadata.filter->calls) {
      const bool first = !filter.contains(treatment);
      filter[treatment] = first ? name : filter[treatment].get<std::string>() + " " + name;
    }
  }
  // Bytes that are not UTF-8 become U+FFFD: JSON cannot carry them.
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

Expected<ListenerMetadata> DecodeListenerMetadata(std::string_view text) {
  Sources sources;
  const uint32_t file = sources.Add(std::string(kMetadataName), std::string(text));
  Diagnostics diagnostics(sources);
  const auto document = jsonc::Parse(sources, file, jsonc::Comments::kRefused, diagnostics);
  if (!document) {
    return std::unexpected(diagnostics.ToError());
  }
  const jsonc::Value* version = document->root.Find(kVersionKey);
  if (version == nullptr || version->kind != jsonc::Kind::kNumber || version->text != "1") {
    return MakeError(EINVAL, fmt::format("{}: \"{}\" is not 1: written by another program or a "
                                         "later version",
                                         kMetadataName, kVersionKey));
  }
  const auto read = [&](std::string_view key, std::string& out) {
    const jsonc::Value* value = document->root.Find(key);
    if (value != nullptr && value->kind != jsonc::Kind::kString) {
      diagnostics.Add(value->at, fmt::format("\"{}\" must be a string", key));
    } else if (value != nullptr) {
      out = value->text;
    }
  };
  ListenerMetadata metadata;
  read("policy", metadata.policy);
  for (const auto& [key, member] : kFields) {
    read(key, metadata.facts.*member);
  }
  if (const jsonc::Value* filter = document->root.Find(kFilterKey); filter != nullptr) {
    metadata.filter = ReadFilter(*filter);
  }
  if (metadata.policy.empty() && diagnostics.ok()) {
    diagnostics.Add(document->root.at, "no \"policy\"");
  }
  if (!diagnostics.ok()) {
    return std::unexpected(diagnostics.ToError());
  }
  return metadata;
}

}  // namespace oakum::policy
