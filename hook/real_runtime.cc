#include "hook/real_runtime.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <string_view>

namespace oakum::hook {

namespace {

constexpr std::array<std::string_view, 6> kDirectories = {
    "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};

}  // namespace

Expected<std::string> FindRuntime(const std::string& configured, const struct stat& self) {
  const bool absolute = configured.starts_with('/');
  std::array<std::string, kDirectories.size()> candidates;
  size_t count = 0;
  if (absolute) {
    candidates[count++] = configured;
  } else {
    for (const std::string_view directory : kDirectories) {
      candidates[count++] = fmt::format("{}/{}", directory, configured);
    }
  }
  for (size_t i = 0; i < count; ++i) {
    struct stat status = {};
    if (stat(candidates[i].c_str(), &status) != 0) {
      if (absolute) {
        return ErrnoError(fmt::format("the runtime {}", configured));
      }
      continue;
    }
    const bool is_self = status.st_dev == self.st_dev && status.st_ino == self.st_ino;
    if (is_self && absolute) {
      return MakeError(ELOOP,
                       fmt::format("the runtime {} is oakum-runtime itself; name the real one "
                                   "(runc, crun or its path) as \"runtime\"",
                                   configured));
    }
    if (is_self) {
      continue;
    }
    if (S_ISREG(status.st_mode) && access(candidates[i].c_str(), X_OK) == 0) {
      return candidates[i];
    }
    if (absolute) {
      return MakeError(EACCES, fmt::format("the runtime {} is not an executable file", configured));
    }
  }
  return MakeError(ENOENT, fmt::format("no runtime \"{}\" in {}; install it or give its path as "
                                       "\"runtime\"",
                                       Escape(configured), fmt::join(kDirectories, ", ")));
}

}  // namespace oakum::hook
