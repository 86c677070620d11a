// The files of one container as its own first process and the agent see them: which names lead to a
// socket.
#ifndef OAKUM_AGENT_CALLER_CONTAINER_VIEW_H_
#define OAKUM_AGENT_CALLER_CONTAINER_VIEW_H_

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/caller/mount_table.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "policy/policy.h"

namespace oakum::agent {

// What leads to one socket file.
struct SocketNames {
  // In the root of the container's first process, links resolved: the name that rules allow. Empty
  // when it has none there (a mount namespace of a program's own).
  std::string name;
  std::string shown;  // the same, or the caller's own name for it
  // Other names, and the paths of rules that lead to the same file: see policy::UnixRequest.
  std::vector<std::string> aliases;
  bool more_names = false;
};

// A file, whatever leads to it. The time of birth tells a reused number from the old one, where the
// file system has it.
struct FileIdentity {
  uint64_t device = 0;
  uint64_t inode = 0;
  int64_t birth_seconds = 0;
  uint32_t birth_nanoseconds = 0;
  bool operator==(const FileIdentity&) const = default;
};

// The file that the path of a deny rule has led to.
struct RememberedFile {
  std::string path;
  FileIdentity file;
};

// A mount namespace, by its inode in nsfs.
struct MountNamespace {
  dev_t device = 0;
  ino_t inode = 0;
  bool operator==(const MountNamespace&) const = default;
};

// What a container began with, for an agent that comes later: its program may have left it by then.
struct ContainerOrigin {
  UniqueFd root;  // O_PATH; invalid when unknown
  std::string root_path;
  std::optional<MountNamespace> mounts;
  std::vector<RememberedFile> remembered;
};

// Shared by all sessions of a container. Thread-safe; no lock is held while files are looked up.
class ContainerView {
 public:
  // `pid`: the container's first process as it was when its filter was loaded, 0 when unknown: then
  // the first caller's root counts.
  explicit ContainerView(pid_t pid);
  // The same as an earlier agent saw it; `pid` tells no more than the mounts, if it is still there.
  ContainerView(pid_t pid, ContainerOrigin origin);

  // Names the socket file `inode_fd` (O_PATH) that thread `tid` has reached. Everything but `name`
  // and `shown` is filled in as far as `policy` (may be null) depends on it. Returns 0, ENOENT
  // when the name has been removed meanwhile, or EMFILE where this process has no room to look.
  [[nodiscard]] int Name(pid_t tid, const policy::Policy* policy, int inode_fd, SocketNames& out);

  // Remembers which files the paths of the policy's deny rules lead to now, so that they stay
  // denied under a new name. False where this process had no room to look at all of them.
  bool Remember(const policy::Policy& policy);
  [[nodiscard]] std::vector<RememberedFile> Remembered() const;
  // A copy of it all. Nothing where the container's first process is unknown.
  [[nodiscard]] std::optional<ContainerOrigin> Origin() const;

  // What the regular file at `path` holds in the root of the container's first process, at most
  // `limit` bytes; empty when there is none or it cannot be read (with the privileges that the
  // thread has). A file server behind it (fuse(4)) may never answer: empty as well after
  // kReadsWithin, and at once while kMaxHeldUp such readers are waiting, of all containers.
  [[nodiscard]] std::string ReadFile(const std::string& path, size_t limit) const;
  static constexpr std::chrono::milliseconds kReadsWithin{250};
  static constexpr int kMaxHeldUp = 16;

 private:
  using Identity = FileIdentity;
  using Denied = RememberedFile;
  using Namespace = MountNamespace;

  static constexpr size_t kMaxRemembered = 1024;

  void Adopt(pid_t pid);
  void OpenMounts(pid_t pid);
  static std::optional<Namespace> MountNamespaceOf(pid_t pid);
  static std::optional<Identity> IdentityOf(int fd);
  // The file at `path` below `root_fd`, -1 for the agent's own root.
  static std::optional<Identity> Find(int root_fd, const std::string& path);
  // The files that the rule's path leads to, in the container's root and in the agent's.
  // Errors: EMFILE, ENFILE; what is not there is none.
  [[nodiscard]] Expected<std::vector<Identity>> FindDenied(const std::string& path) const;
  void Keep(const std::string& path, const std::vector<Identity>& files);
  // The names through the mounts of the container and of the agent. The former are put into
  // `inside` as well. False when not all are known.
  [[nodiscard]] bool AppendMountNames(pid_t tid, uint64_t mount_id, const std::string& path,
                                      std::vector<std::string>& inside,
                                      std::vector<std::string>& out);

  std::once_flag adopted_;
  UniqueFd root_;  // O_PATH; written once, by Adopt
  std::string root_path_;
  std::optional<Namespace> namespace_;
  mutable std::mutex mutex_;  // the members below
  std::optional<MountTable> mounts_;
  std::optional<MountTable> own_mounts_;
  std::vector<Denied> remembered_;
};

// The part of `path` below `root`, both as the agent sees them: a container that was not pivoted (a
// plain chroot) shows its root in front.
[[nodiscard]] std::string BelowRoot(std::string path, const std::string& root);
// The target of a symbolic link, empty when it cannot be read.
[[nodiscard]] std::string ReadLinkTarget(const std::string& path);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_CONTAINER_VIEW_H_
