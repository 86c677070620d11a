// Files that the programs keep for themselves beside the agent's socket.
#ifndef OAKUM_HOOK_OWN_FILE_H_
#define OAKUM_HOOK_OWN_FILE_H_

#include <sys/stat.h>

#include <cstddef>
#include <optional>
#include <string>

namespace oakum::hook {

// Whether it belongs to this process's user and nobody else can write to it.
[[nodiscard]] bool IsOnlyOurs(const struct stat& status);

// The content of the file at `path` (relative to `dir_fd`); nothing when it is longer than `limit`
// bytes, is no regular file of ours (IsOnlyOurs), is a symbolic link, or cannot be read.
[[nodiscard]] std::optional<std::string> ReadOwnFile(int dir_fd, const std::string& path,
                                                     size_t limit);

// What tells the file at `path` with this `status` from whatever was or will be there: device,
// inode, size, times of change. One line without its end.
[[nodiscard]] std::string FileIdentity(const std::string& path, const struct stat& status);

}  // namespace oakum::hook

#endif  // OAKUM_HOOK_OWN_FILE_H_
