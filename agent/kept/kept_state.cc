#include "agent/kept/kept_state.h"

#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "oci/json.h"

namespace oakum::agent {

namespace {

using oci::Json;

// Bytes, which JSON strings are not: each is a character of Latin-1.
std::string ToText(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (const char byte : bytes) {
    const auto value = static_cast<unsigned char>(byte);
    if (value < 0x80) {
      text += byte;
    } else {
      text += static_cast<char>(0xc0 | (value >> 6));
      text += static_cast<char>(0x80 | (value & 0x3f));
    }
  }
  return text;
}

std::string ToBytes(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto value = static_cast<unsigned char>(text[i]);
    if (value >= 0xc0 && i + 1 < text.size()) {
      bytes += static_cast<char>((value << 6) | (static_cast<unsigned char>(text[++i]) & 0x3f));
    } else {
      bytes += text[i];
    }
  }
  return bytes;
}

std::string Text(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() ? ToBytes(found->get_ref<const std::string&>()) : std::string();
}

// Json::get() makes an integer of any number, also of one that none can be made of. These throw
// where it is no integer.
uint64_t Unsigned(const Json& number) { return number.get_ref<const Json::number_unsigned_t&>(); }
int64_t Integer(const Json& number) { return number.get_ref<const Json::number_integer_t&>(); }

// 0 when it is absent.
int64_t IntegerOf(const Json& object, const char* key) {
  return object.contains(key) ? Integer(object.at(key)) : 0;
}

}  // namespace

std::string EncodeKeptState(const KeptState& state) {
  Json json = {{"id", ToText(state.container.id)},
               {"initPid", state.container.init_pid},
               {"pid", state.container.pid},
               {"metadata", ToText(state.container.metadata)},
               {"bundle", ToText(state.container.bundle)},
               {"status", ToText(state.container.status)},
               {"policy", ToText(state.policy)},
               {"attachedNs", state.attached_ns},
               {"rootPath", ToText(state.root_path)},
               {"annotations", Json::object()}};
  for (const auto& [key, value] : state.container.annotations) {
    json["annotations"][ToText(key)] = ToText(value);
  }
  if (state.mounts) {
    json["mountNamespace"] = {state.mounts->device, state.mounts->inode};
  }
  if (state.resolv_conf) {
    json["resolvConf"] = ToText(*state.resolv_conf);
  }
  return json.dump();
}

Expected<KeptState> DecodeKeptState(std::string_view text) {
  const auto json = oci::ParseJson(text, "kept session");
  if (!json) {
    return std::unexpected(json.error());
  }
  KeptState state;
  try {
    state.container.id = Text(*json, "id");
    state.container.init_pid = static_cast<pid_t>(IntegerOf(*json, "initPid"));
    state.container.pid = static_cast<pid_t>(IntegerOf(*json, "pid"));
    state.container.metadata = Text(*json, "metadata");
    state.container.bundle = Text(*json, "bundle");
    state.container.status = Text(*json, "status");
    state.policy = Text(*json, "policy");
    state.attached_ns = IntegerOf(*json, "attachedNs");
    state.root_path = Text(*json, "rootPath");
    if (json->contains("mountNamespace")) {
      const Json& mounts = json->at("mountNamespace");
      state.mounts = {Unsigned(mounts.at(0)), Unsigned(mounts.at(1))};
    }
    if (json->contains("annotations")) {
      for (const auto& [key, value] : json->at("annotations").items()) {
        state.container.annotations[ToBytes(key)] = ToBytes(value.get_ref<const std::string&>());
      }
    }
    if (json->contains("resolvConf")) {
      state.resolv_conf = Text(*json, "resolvConf");
    }
  } catch (const nlohmann::json::exception& error) {
    return MakeError(EINVAL, std::string("kept session: ") + error.what());
  }
  if (state.container.id.empty()) {
    return MakeError(EINVAL, "kept session: it has no container id");
  }
  return state;
}

std::string EncodeRemembered(const std::vector<RememberedFile>& files) {
  Json json = Json::array();
  for (const auto& [path, file] : files) {
    json.push_back(
        {ToText(path), file.device, file.inode, file.birth_seconds, file.birth_nanoseconds});
  }
  return json.dump();
}

Expected<std::vector<RememberedFile>> DecodeRemembered(std::string_view text) {
  std::vector<RememberedFile> files;
  if (text.empty()) {
    return files;
  }
  const auto json = oci::ParseJson(text, "remembered files");
  if (!json) {
    return std::unexpected(json.error());
  }
  try {
    for (const Json& entry : *json) {
      files.push_back({ToBytes(entry.at(0).get_ref<const std::string&>()),
                       {Unsigned(entry.at(1)), Unsigned(entry.at(2)), Integer(entry.at(3)),
                        static_cast<uint32_t>(Unsigned(entry.at(4)))}});
    }
  } catch (const nlohmann::json::exception& error) {
    return MakeError(EINVAL, std::string("remembered files: ") + error.what());
  }
  return files;
}

}  // namespace oakum::agent
