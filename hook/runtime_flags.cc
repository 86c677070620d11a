#include "hook/runtime_flags.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <string_view>

#include "base/file.h"
#include "base/run_program.h"
#include "hook/own_file.h"
#include "oci/wait_killable.h"

namespace oakum::hook {

namespace {

constexpr char kCacheName[] = "runtime-flags";
constexpr size_t kMaxCache = size_t{16} << 10;
constexpr size_t kMaxLines = 32;

// The lines of `text` but those that begin with `path`, the last ones if there are many.
std::string Without(std::string_view text, const std::string& path) {
  std::string kept;
  size_t lines = 0;
  while (!text.empty() && lines < kMaxLines) {
    const size_t end = std::min(text.find('\n'), text.size() - 1);
    const std::string_view line = text.substr(0, end + 1);
    text.remove_prefix(end + 1);
    if (!line.starts_with(Escape(path) + ' ')) {
      kept += line;
      ++lines;
    }
  }
  return kept;
}

}  // namespace

bool AskForWaitKillable(const std::string& path, const ProgramRunner& run) {
  const auto version = run({path, "--version"});
  if (!version) {
    return false;
  }
  switch (oci::WaitKillableByVersion(*version)) {
    case oci::RuntimeAnswer::kYes:
      return true;
    case oci::RuntimeAnswer::kNo:
      return false;
    case oci::RuntimeAnswer::kAskFeatures:
      break;
  }
  const auto features = run({path, "features"});
  return features && oci::WaitKillableByFeatures(*features);
}

bool TakesWaitKillable(const std::string& path, const std::string& cache,
                       const ProgramRunner& run) {
  struct stat status = {};
  if (stat(path.c_str(), &status) != 0) {
    return false;
  }
  const std::string key = FileIdentity(path, status);
  const std::string text = ReadOwnFile(AT_FDCWD, cache, kMaxCache).value_or(std::string());
  for (const bool takes : {true, false}) {
    const std::string line = fmt::format("{} {}\n", key, takes ? "yes" : "no");
    if (text.starts_with(line) || text.contains('\n' + line)) {
      return takes;
    }
  }
  const bool takes = AskForWaitKillable(path, run);
  // Not being able to write it costs time and nothing else.
  (void)ReplaceFile(cache,
                    fmt::format("{} {}\n{}", key, takes ? "yes" : "no", Without(text, path)));
  return takes;
}

std::vector<std::string> FilterFlags(const policy::Config& config, const std::string& path) {
  switch (config.wait_killable) {
    case policy::WaitKillable::kOff:
      return {};
    case policy::WaitKillable::kOn:
      return {oci::kWaitKillableFlag};
    case policy::WaitKillable::kAuto:
      break;
  }
  if (path.empty() || !oci::KernelWaitsKillable()) {
    return {};
  }
  const std::string directory = config.socket.substr(0, config.socket.rfind('/'));
  return TakesWaitKillable(path, fmt::format("{}/{}", directory, kCacheName), RunProgram)
             ? std::vector<std::string>{oci::kWaitKillableFlag}
             : std::vector<std::string>();
}

}  // namespace oakum::hook
