// The files in which Docker and podman keep what they know of a container: its name and image are
// not in config.json.
#ifndef OAKUM_HOOK_ENGINE_RECORD_H_
#define OAKUM_HOOK_ENGINE_RECORD_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"

namespace oakum::hook {

// The longest record that is read: containers.json has one entry of some 700 bytes a container.
inline constexpr size_t kMaxEngineRecord = size_t{64} << 20;

struct EngineRecord {
  std::string id;
  std::string name;
  std::string image;
  std::map<std::string, std::string> labels;

  bool operator==(const EngineRecord&) const = default;
};

// The directory three levels above the container's root file system, empty when there is none:
// Docker's data root and podman's graph root in every layout that they have
// (ROOT/overlay2/ID/merged, ROOT/overlay/ID/merged, ROOT/vfs/dir/ID, ROOT/btrfs/subvolumes/ID,
// ROOT/rootfs/overlayfs/ID).
[[nodiscard]] std::string StorageRoot(std::string_view root_path);

// Reads a file that only root, or whoever we run as, can have written. Errors: EPERM when somebody
// else owns it or may write it, EFBIG, else open(2)'s or read(2)'s.
[[nodiscard]] Expected<std::string> ReadEngineFile(const std::string& path);

// Docker's containers/ID/config.v2.json. Errors: EINVAL when it is malformed or is the record of
// another container.
[[nodiscard]] Expected<EngineRecord> ParseDockerRecord(std::string_view text, std::string_view id);

// The entry of containers/storage's containers.json with this id or, when `id` is empty, this
// layer. Errors: EINVAL when the file is malformed, ENOENT when it has no such entry.
[[nodiscard]] Expected<EngineRecord> FindPodmanRecord(std::string_view text, std::string_view id,
                                                      std::string_view layer);

// A Docker image reference in full: "nginx" is "docker.io/library/nginx:latest"
// (distribution/reference, "Normalized"). An image id ("sha256:...") stays as it is.
[[nodiscard]] std::string FullImageName(std::string_view reference);

}  // namespace oakum::hook

#endif  // OAKUM_HOOK_ENGINE_RECORD_H_
