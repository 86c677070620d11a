#include "policy/container.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "policy/jsonc.h"

namespace oakum::policy {

namespace {

constexpr std::string_view kMetadataName = "listenerMetadata";
constexpr std::string_view kVersionKey = "oakum";

using Field = std::pair<std::string_view, std::string ContainerFacts::*>;
constexpr std::array<Field, 6> kFields = {{{"engine", &ContainerFacts::engine},
                                           {"id", &ContainerFacts::id},
                                           {"name", &ContainerFacts::name},
                                           {"image", &ContainerFacts::image},
                                           {"namespace", &ContainerFacts::ns},
                                           {"pod", &ContainerFacts::pod}}};

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
  if (metadata.policy.empty() && diagnostics.ok()) {
    diagnostics.Add(document->root.at, "no \"policy\"");
  }
  if (!diagnostics.ok()) {
    return std::unexpected(diagnostics.ToError());
  }
  return metadata;
}

}  // namespace oakum::policy
