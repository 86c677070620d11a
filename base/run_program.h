// A program's output.
#ifndef OAKUM_BASE_RUN_PROGRAM_H_
#define OAKUM_BASE_RUN_PROGRAM_H_

#include <string>
#include <vector>

#include "base/error.h"

namespace oakum {

// Runs `command`, whose first word is a path, with nothing on standard input, and returns what it
// writes to standard output: at most 64 KiB, with no more than 10 s of silence. Errors:
// posix_spawn(3)'s; ETIMEDOUT, EFBIG; EIO when it fails.
[[nodiscard]] Expected<std::string> RunProgram(const std::vector<std::string>& command);

}  // namespace oakum

#endif  // OAKUM_BASE_RUN_PROGRAM_H_
