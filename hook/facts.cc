#include "hook/facts.h"

#include <fmt/format.h>

#include <cerrno>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "hook/engine_record.h"

namespace oakum::hook {

namespace {

std::vector<std::string_view> Components(std::string_view path) {
  std::vector<std::string_view> components;
  while (!path.empty()) {
    const size_t slash = path.find('/');
    if (slash != 0) {
      components.push_back(path.substr(0, slash));
    }
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
  }
  return components;
}

// The engine's prefix and the id in a cgroupsPath: "/parent/libpod-ID" with cgroupfs,
// "slice:libpod:ID" with systemd.
std::pair<std::string, std::string> CgroupName(const oci::ConfigFacts& config) {
  std::string path = config.cgroups_path;
  path.erase(0, path.rfind('/') + 1);  // npos + 1 is 0
  if (const size_t first = path.find(':'); first != std::string::npos) {
    path.erase(0, first + 1);
  }
  const size_t split = path.find_first_of(":-");
  if (split == std::string::npos) {
    return {};
  }
  return {path.substr(0, split), path.substr(split + 1)};
}

std::string Annotation(const std::map<std::string, std::string>& annotations, const char* key) {
  const auto found = annotations.find(key);
  return found == annotations.end() ? std::string() : found->second;
}

void MarkUnknown(policy::ContainerFacts& facts, std::initializer_list<const char*> what,
                 std::string_view why) {
  for (const char* fact : what) {
    facts.unknown.emplace(fact, std::string(why));
  }
}

void AddRecord(policy::ContainerFacts& facts, Expected<EngineRecord>&& record, bool has_labels) {
  if (!record) {
    MarkUnknown(facts, {"name", "image"}, record.error().what);
    if (has_labels) {
      MarkUnknown(facts, {"label"}, record.error().what);
    }
    return;
  }
  facts.id = std::move(record->id);
  facts.name = std::move(record->name);
  facts.image = std::move(record->image);
  facts.labels = std::move(record->labels);
}

Expected<EngineRecord> DockerRecord(const oci::ConfigFacts& config, const std::string& id) {
  const std::string root = StorageRoot(config.root_path);
  if (root.empty()) {
    return MakeError(ENOENT, "root.path is not in Docker's data root");
  }
  const std::string path = fmt::format("{}/containers/{}/config.v2.json", root, id);
  const auto text = ReadEngineFile(path);
  if (!text) {
    return std::unexpected(text.error());
  }
  auto record = ParseDockerRecord(*text, id);
  if (!record) {
    return std::unexpected(std::move(record.error()).Context(path));
  }
  return record;
}

// `directory` is GRAPHROOT/DRIVER-containers.
Expected<EngineRecord> PodmanRecord(const std::string& directory, const std::string& id,
                                    const std::string& layer) {
  Expected<EngineRecord> record = MakeError(ENOENT, fmt::format("{}: no record", directory));
  // Containers that are removed when they end are in a file of their own since containers/storage
  // 1.45.
  for (const char* name : {"containers.json", "volatile-containers.json"}) {
    const std::string path = fmt::format("{}/{}", directory, name);
    const auto text = ReadEngineFile(path);
    if (!text && text.error().code == ENOENT) {
      continue;
    }
    record = text ? FindPodmanRecord(*text, id, layer) : std::unexpected(text.error());
    if (record || record.error().code != ENOENT) {
      break;
    }
  }
  if (!record) {
    return std::unexpected(std::move(record.error()).Context(directory));
  }
  return record;
}

// podman, as a precreate hook, tells neither the id nor the bundle. The layer in root.path is the
// engine's own word; it leads to the record.
Expected<EngineRecord> PodmanRecordByRoot(const oci::ConfigFacts& config) {
  const std::string graph_root = StorageRoot(config.root_path);
  if (graph_root.empty()) {
    return MakeError(ENOENT, "root.path is not in podman's storage");
  }
  const auto below = Components(std::string_view(config.root_path).substr(graph_root.size()));
  if (below.size() != 3) {
    return MakeError(ENOENT, "root.path is not in podman's storage");
  }
  const std::string_view layer = below[2] == "merged" ? below[1] : below[2];
  return PodmanRecord(fmt::format("{}/{}-containers", graph_root, below[0]), "",
                      std::string(layer));
}

void ReadPodman(policy::ContainerFacts& facts, const oci::ConfigFacts& config,
                const Origin& origin) {
  facts.engine = "podman";
  MarkUnknown(facts, {"label"}, "podman does not hand labels over");
  if (origin.bundle.empty()) {
    if (const auto [prefix, id] = CgroupName(config); prefix == "libpod") {
      facts.id = id;
    }
    AddRecord(facts, PodmanRecordByRoot(config), false);
    return;
  }
  // GRAPHROOT/DRIVER-containers/ID/userdata
  const std::string container = origin.bundle.substr(0, origin.bundle.rfind('/'));
  AddRecord(facts, PodmanRecord(container.substr(0, container.rfind('/')), facts.id, ""), false);
}

void ReadContainerdCri(policy::ContainerFacts& facts) {
  facts.engine = "containerd";
  facts.ns = Annotation(facts.annotations, "io.kubernetes.cri.sandbox-namespace");
  facts.pod = Annotation(facts.annotations, "io.kubernetes.cri.sandbox-name");
  MarkUnknown(facts, {"label"}, "containerd does not hand labels over");
  // A sandbox has no name and image of these keys; a pod's author may have brought them in.
  if (Annotation(facts.annotations, "io.kubernetes.cri.container-type") == "container") {
    facts.name = Annotation(facts.annotations, "io.kubernetes.cri.container-name");
    facts.image = Annotation(facts.annotations, "io.kubernetes.cri.image-name");
  }
}

void ReadCrio(policy::ContainerFacts& facts) {
  facts.engine = "cri-o";
  // CRI-O adds the labels last; those of these names are kubelet's.
  facts.ns = Annotation(facts.annotations, "io.kubernetes.pod.namespace");
  facts.pod = Annotation(facts.annotations, "io.kubernetes.pod.name");
  MarkUnknown(facts, {"label"}, "CRI-O does not hand a pod's labels over");
  if (Annotation(facts.annotations, "io.kubernetes.cri-o.ContainerType") == "container") {
    facts.name = Annotation(facts.annotations, "io.kubernetes.container.name");
    facts.image = Annotation(facts.annotations, "io.kubernetes.cri-o.ImageName");
  }
}

}  // namespace

Engine DetectEngine(const oci::ConfigFacts& config, const Origin& origin) {
  if (origin.bundle.empty()) {
    return Engine::kPodman;
  }
  const auto path = Components(origin.bundle);
  if (path.size() < 3) {
    return Engine::kNone;
  }
  const std::string_view last = path[path.size() - 1];
  const std::string_view second = path[path.size() - 2];
  const std::string_view third = path[path.size() - 3];
  if (last == "userdata" && third.ends_with("-containers") && second == origin.container_id) {
    return CgroupName(config) == std::pair<std::string, std::string>("crio", origin.container_id) &&
                   Annotation(config.annotations, "io.container.manager") == "cri-o"
               ? Engine::kCrio
               : Engine::kPodman;
  }
  if (third.starts_with("io.containerd.runtime.") && last == origin.container_id) {
    return second == "moby"     ? Engine::kDocker
           : second == "k8s.io" ? Engine::kContainerdCri
                                : Engine::kContainerd;
  }
  return Engine::kNone;
}

policy::ContainerFacts ReadFacts(const oci::ConfigFacts& config, const Origin& origin) {
  policy::ContainerFacts facts;
  facts.id = origin.container_id;
  facts.annotations = config.annotations;
  switch (DetectEngine(config, origin)) {
    case Engine::kNone:
      break;
    case Engine::kPodman:
      ReadPodman(facts, config, origin);
      break;
    case Engine::kDocker:
      facts.engine = "docker";
      AddRecord(facts, DockerRecord(config, origin.container_id), true);
      break;
    case Engine::kContainerdCri:
      ReadContainerdCri(facts);
      break;
    case Engine::kContainerd:
      facts.engine = "containerd";
      facts.name = origin.container_id;
      MarkUnknown(facts, {"image", "label"}, "containerd hands it over for Kubernetes only");
      break;
    case Engine::kCrio:
      ReadCrio(facts);
      break;
  }
  return facts;
}

}  // namespace oakum::hook
