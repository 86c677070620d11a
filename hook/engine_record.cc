#include "hook/engine_record.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "base/unique_fd.h"
#include "oci/json.h"

namespace oakum::hook {

namespace {

// The string at `key`, empty when it is missing or something else.
std::string StringAt(const oci::Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

std::string StorageRoot(std::string_view root_path) {
  if (!root_path.starts_with('/')) {
    return {};
  }
  for (int level = 0; level < 3; ++level) {
    const size_t slash = root_path.rfind('/');
    if (slash == std::string_view::npos || slash == 0) {
      return {};
    }
    root_path = root_path.substr(0, slash);
  }
  return std::string(root_path);
}

Expected<std::string> ReadEngineFile(const std::string& path) {
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  if (!fd) {
    return ErrnoError(fmt::format("open {}", path));
  }
  struct stat status = {};
  if (fstat(fd.get(), &status) != 0) {
    return ErrnoError(fmt::format("stat {}", path));
  }
  if (!S_ISREG(status.st_mode) || (status.st_uid != 0 && status.st_uid != geteuid()) ||
      (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    return MakeError(EPERM, fmt::format("{}: not a regular file that only its owner, root or uid "
                                        "{}, may write",
                                        path, geteuid()));
  }
  auto text = ReadAll(fd.get(), kMaxEngineRecord);
  if (!text) {
    return std::unexpected(std::move(text.error()).Context(path));
  }
  return text;
}

Expected<EngineRecord> ParseDockerRecord(std::string_view text, std::string_view id) {
  auto json = oci::ParseJson(text, "config.v2.json");
  if (!json) {
    return std::unexpected(std::move(json.error()));
  }
  if (!json->is_object() || StringAt(*json, "ID") != id) {
    return MakeError(EINVAL,
                     fmt::format("config.v2.json: not the record of container {}", Escape(id)));
  }
  EngineRecord record;
  record.id = std::string(id);
  record.name = StringAt(*json, "Name");
  if (record.name.starts_with('/')) {
    record.name.erase(0, 1);
  }
  const auto config = json->find("Config");
  if (config == json->end() || !config->is_object() || record.name.empty()) {
    return MakeError(EINVAL, "config.v2.json: no \"Name\" or \"Config\"");
  }
  record.image = FullImageName(StringAt(*config, "Image"));
  const auto labels = config->find("Labels");
  if (labels != config->end() && labels->is_object()) {
    for (const auto& [key, value] : labels->items()) {
      if (!value.is_string()) {
        return MakeError(EINVAL, "config.v2.json: \"Labels\" has a value that is not a string");
      }
      record.labels.emplace(key, value.get<std::string>());
    }
  }
  return record;
}

Expected<EngineRecord> FindPodmanRecord(std::string_view text, std::string_view id,
                                        std::string_view layer) {
  auto json = oci::ParseJson(text, "containers.json");
  if (!json) {
    return std::unexpected(std::move(json.error()));
  }
  if (!json->is_array()) {
    return MakeError(EINVAL, "containers.json: not an array");
  }
  for (const oci::Json& entry : *json) {
    if (!entry.is_object() || (id.empty() ? layer.empty() || StringAt(entry, "layer") != layer
                                          : StringAt(entry, "id") != id)) {
      continue;
    }
    EngineRecord record;
    record.id = StringAt(entry, "id");
    // podman keeps its own words about the container in one string of JSON.
    const auto metadata = oci::ParseJson(StringAt(entry, "metadata"), "containers.json: metadata");
    if (!metadata) {
      return std::unexpected(metadata.error());
    }
    if (!metadata->is_object()) {
      return MakeError(EINVAL, "containers.json: metadata: not an object");
    }
    record.name = StringAt(*metadata, "name");
    record.image = StringAt(*metadata, "image-name");
    return record;
  }
  return MakeError(ENOENT, fmt::format("containers.json: no container with {} {}",
                                       id.empty() ? "layer" : "id", id.empty() ? layer : id));
}

std::string FullImageName(std::string_view reference) {
  if (reference.empty() || reference.starts_with("sha256:")) {
    return std::string(reference);
  }
  std::string name(reference);
  const size_t slash = name.find('/');
  const std::string_view first = std::string_view(name).substr(0, slash);
  const bool has_domain =
      slash != std::string::npos &&
      (first.find_first_of(".:") != std::string_view::npos || first == "localhost");
  if (!has_domain) {
    name.insert(0, slash == std::string::npos ? "docker.io/library/" : "docker.io/");
  }
  if (name.find(':', name.rfind('/')) == std::string::npos && name.find('@') == std::string::npos) {
    name += ":latest";
  }
  return name;
}

}  // namespace oakum::hook
