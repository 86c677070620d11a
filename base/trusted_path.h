// Who could put something else at a path: what sshd_config(5) calls StrictModes.
#ifndef OAKUM_BASE_TRUSTED_PATH_H_
#define OAKUM_BASE_TRUSTED_PATH_H_

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/error.h"

namespace oakum {

// What the kernel calls a user that the reader's user namespace has no id for (user_namespaces(7),
// "Unmapped user and group IDs"); nothing where every user has one.
[[nodiscard]] std::optional<uid_t> UnmappedUid();

// Whether `uid` is root or the user of this process, as ids that the kernel has just told. One that
// is not mapped here never is, though it looks like the user with the number 65534.
[[nodiscard]] bool IsRootOrSelf(uid_t uid);
// The same with UnmappedUid() known.
[[nodiscard]] bool IsRootOrSelf(uid_t uid, std::optional<uid_t> unmapped);

// Whether nobody but root and this process's user can replace what is at the absolute `path`, or
// put something there: every directory on the way, and every symbolic link, belongs to one of the
// two, and nobody else may write to it. A sticky directory (/tmp) will do on the way to a directory
// that belongs to them, not as the one that holds `path`. Directories that are missing are no harm.
// In a user namespace, directories of users that are not mapped count as root's: /, for one.
// Errors: EPERM, with who may do what and what would be right; EINVAL for a path that is not
// absolute, ELOOP, those of openat(2).
[[nodiscard]] Expected<void> CheckOnlyOursToReplace(const std::string& path);
// The same with UnmappedUid() known.
[[nodiscard]] Expected<void> CheckOnlyOursToReplace(const std::string& path,
                                                    std::optional<uid_t> unmapped);

// Whether not everybody can change what is at the absolute `path`, a file or a directory: neither
// it nor a directory on the way is writable for all; in a sticky one it belongs to root or this
// process's user. Groups and other owners are the operator's decision. What cannot be found is no
// harm. Errors: EPERM, as above.
[[nodiscard]] Expected<void> CheckNotEverybodysToChange(const std::string& path);

}  // namespace oakum

#endif  // OAKUM_BASE_TRUSTED_PATH_H_
