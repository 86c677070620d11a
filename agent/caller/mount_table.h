// The mounts of a namespace, and the names that a file has through them.
#ifndef OAKUM_AGENT_CALLER_MOUNT_TABLE_H_
#define OAKUM_AGENT_CALLER_MOUNT_TABLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)); \ooo escapes are undone.
struct Mount {
  uint64_t id = 0;
  std::string device;  // "8:1": the file system, whatever stat(2) says about its files (btrfs)
  std::string root;    // what of the file system is mounted
  std::string point;   // where, below the root of the process
  bool read_only = false;
  std::string type;  // "ext4"
};

// A file by its place in a file system: the same whatever mounts lead to it.
struct FilePlace {
  std::string device;
  std::string path;  // from the root of the file system
};

// Lines that cannot be read are left out.
[[nodiscard]] std::vector<Mount> ParseMounts(std::string_view mountinfo);

// The place of a file that is `path` below the root of the process, in mount `mount`. False when
// the path does not lie there.
[[nodiscard]] bool PlaceOf(const Mount& mount, std::string_view path, FilePlace& out);

// Adds every name that `place` has through `mounts`; also those that another mount hides. False
// when there are too many to list.
[[nodiscard]] bool AppendNames(const std::vector<Mount>& mounts, const FilePlace& place,
                               std::vector<std::string>& out);

// The mounts of one process, read again when they change. Not thread-safe.
class MountTable {
 public:
  // Errors: open(2)'s, ESRCH when the process is gone.
  [[nodiscard]] static Expected<MountTable> Open(pid_t pid);

  // The mounts as they are now: the kernel tells of changes (proc_pid_mountinfo(5), poll). Empty
  // when they cannot be read.
  [[nodiscard]] const std::vector<Mount>& Now();

 private:
  explicit MountTable(UniqueFd file) : file_(std::move(file)) {}

  UniqueFd file_;
  bool read_ = false;
  std::vector<Mount> mounts_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_MOUNT_TABLE_H_
