// oakum-runtime: an OCI runtime that guards the bundle and then becomes runc or crun.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file.h"
#include "hook/bundle_config.h"
#include "hook/guard.h"
#include "hook/real_runtime.h"
#include "hook/report.h"
#include "hook/runtime_command.h"
#include "hook/runtime_flags.h"
#include "oci/absent_archs.h"
#include "policy/config.h"
#include "policy/policy_set.h"

namespace {

using oakum::Expected;
using oakum::hook::RuntimeCommand;

constexpr char kProgram[] = "oakum-runtime";
constexpr char kDefaultRuntime[] = "runc";
// Set for the real runtime; that one being oakum-runtime once more, through a script, would go on
// for ever.
constexpr char kInside[] = "OAKUM_RUNTIME";

Expected<std::string> RealPath(const std::string& path) {
  char* resolved = realpath(path.c_str(), nullptr);
  if (resolved == nullptr) {
    return oakum::ErrnoError(fmt::format("bundle {}", path));
  }
  std::string result = resolved;
  std::free(resolved);
  return result;
}

Expected<void> GuardBundle(const RuntimeCommand& command, const oakum::policy::Config& config,
                           const std::string& runtime) {
  const auto policies =
      oakum::policy::PolicySet::Load(config.policy, oakum::policy::PolicyUse::kEnforce);
  if (!policies) {
    return std::unexpected(policies.error());
  }
  if (auto agent = oakum::hook::CheckAgent(config.socket); !agent) {
    return agent;
  }
  auto bundle = RealPath(command.bundle);
  if (!bundle) {
    return std::unexpected(std::move(bundle.error()));
  }
  // crun takes another file with --config, but understands "config.json" as the bundle's.
  const std::string path = command.config_file.empty() || command.config_file == "config.json"
                               ? fmt::format("{}/config.json", *bundle)
                               : command.config_file;
  auto current = oakum::ReadFile(path, oakum::hook::kMaxConfigJson);
  if (!current) {
    return std::unexpected(std::move(current.error()));
  }
  const oakum::hook::Origin origin = {.bundle = *bundle, .container_id = command.container_id};
  // Whether it is an engine's can be told from the path alone.
  const bool by_hand = oakum::hook::DetectEngine({}, origin) == oakum::hook::Engine::kNone;
  const std::string original =
      by_hand ? oakum::hook::BeforeEdit(path, std::move(*current)) : std::move(*current);
  const oakum::hook::MergeCache cache = oakum::hook::CacheBeside(config.socket);
  const auto guarded = oakum::hook::GuardConfig(original, origin, **policies, config.socket,
                                                oakum::hook::FilterFlags(config, runtime), &cache,
                                                oakum::oci::AbsentArchs());
  if (!guarded) {
    return std::unexpected(oakum::Error(guarded.error()).Context(*bundle));
  }
  if (by_hand) {
    if (auto remembered = oakum::hook::RememberEdit(path, original, *guarded); !remembered) {
      return remembered;
    }
  }
  // An engine writes its bundles anew at each start, and waiting for the disk takes longer than all
  // else that is done here.
  return oakum::ReplaceFile(path, *guarded,
                            by_hand ? oakum::Durability::kPowerLoss : oakum::Durability::kProcess);
}

Expected<std::string> RuntimePath(const std::string& configured) {
  struct stat self = {};
  if (stat("/proc/self/exe", &self) != 0) {
    return oakum::ErrnoError("stat /proc/self/exe");
  }
  return oakum::hook::FindRuntime(configured.empty() ? kDefaultRuntime : configured, self);
}

// Does not return when the runtime has been started.
Expected<void> Become(const RuntimeCommand& command, const std::string& path) {
  std::vector<std::string> words = command.arguments;
  words.insert(words.begin(), path);
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
  setenv(kInside, "1", 1);
  execv(path.c_str(), argv.data());
  return oakum::ErrnoError(fmt::format("execute {}", path));
}

Expected<void> Run(const std::vector<std::string>& arguments) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
  if (std::getenv(kInside) != nullptr) {
    return oakum::MakeError(ELOOP,
                            "the configured \"runtime\" leads back to oakum-runtime; name the real "
                            "one (runc, crun or its path)");
  }
  const auto command = oakum::hook::ParseRuntimeCommand(arguments);
  if (!command) {
    return std::unexpected(command.error());
  }
  const auto config =
      // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
      oakum::policy::LoadConfig(command->oakum_config, std::getenv(oakum::policy::kConfigVariable));
  if (!config) {
    return std::unexpected(config.error());
  }
  const auto path = RuntimePath(config->runtime);
  if (!path) {
    return std::unexpected(path.error());
  }
  if (command->starts_container) {
    if (auto guarded = GuardBundle(*command, *config, *path); !guarded) {
      return guarded;
    }
  }
  return Become(*command, *path);
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> arguments(argv + (argc > 0 ? 1 : 0), argv + argc);
  const auto result = Run(arguments);
  // Run returns only when something is wrong: otherwise the runtime is running in our place.
  const std::string reason =
      result ? "the runtime was not started" : oakum::hook::OneLine(result.error().what);
  const std::string message = fmt::format("{}: {}", kProgram, reason);
  std::fprintf(stderr, "%s\n", message.c_str());
  oakum::hook::ReportToRuntimeLog(oakum::hook::FindLogOptions(arguments), message,
                                  std::time(nullptr));
  oakum::hook::ReportToSyslog(kProgram, reason);
  return 1;
}
