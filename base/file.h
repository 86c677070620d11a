// Whole-file reading and crash-safe replacing.
#ifndef OAKUM_BASE_FILE_H_
#define OAKUM_BASE_FILE_H_

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum {

// Reads from `fd` to its end. Errors: EFBIG beyond `limit` bytes, else read(2)'s.
[[nodiscard]] Expected<std::string> ReadAll(int fd, size_t limit);

// Reads the file at `path` (relative to `dir_fd`, AT_FDCWD for the working directory).
// Errors: EFBIG beyond `limit` bytes, else open(2)'s or read(2)'s.
[[nodiscard]] Expected<std::string> ReadFile(const std::string& path, size_t limit);

// Writes all of `data` to `fd`, resuming after EINTR and short writes. Errors: write(2)'s.
[[nodiscard]] Expected<void> WriteAll(int fd, std::string_view data);

// What a file that is replaced has to outlive.
enum class Durability : bool { kPowerLoss, kProcess };

// Replaces `path` so that a reader, or a crash, sees the old content or the new one, never a part:
// temporary in the same directory with the old file's mode and owner (0600 and ours if there is
// none), fsync(2), rename(2), fsync of the directory; with kProcess without fsync, which waits for
// the disk: after a power loss the file may be empty. Errors: those calls'; the old file is then
// untouched and the temporary is gone.
[[nodiscard]] Expected<void> ReplaceFile(const std::string& path, std::string_view data,
                                         Durability durability = Durability::kPowerLoss);

}  // namespace oakum

#endif  // OAKUM_BASE_FILE_H_
