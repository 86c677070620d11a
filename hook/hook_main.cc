// oakum-hook: podman's precreate hook. config.json on stdin, the guarded one on stdout.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file.h"
#include "hook/guard.h"
#include "hook/report.h"
#include "hook/runtime_flags.h"
#include "oci/absent_archs.h"
#include "policy/config.h"
#include "policy/policy_set.h"

namespace {

using oakum::Expected;

constexpr char kProgram[] = "oakum-hook";
constexpr char kUsage[] =
    "Usage: oakum-hook [--config FILE]\n"
    "podman's precreate hook: reads a container's config.json on standard input and writes it,\n"
    "guarded by the policy that fits the container, to standard output. It prints nothing and "
    "fails\n"
    "when it cannot, so that the container does not start.\n"
    "  --config FILE  instead of $OAKUM_CONFIG, or /etc/oakum/config.json (an ordinary user:\n"
    "                 ~/.config/oakum/config.json)\n";

struct Options {
  std::optional<std::string> config;
  bool help = false;
  bool version = false;
};

Expected<Options> ParseOptions(std::span<const char* const> arguments) {
  constexpr std::string_view kConfig = "--config";
  Options options;
  for (size_t i = 1; i < arguments.size(); ++i) {
    const std::string_view word = arguments[i];
    if (word == kConfig && i + 1 < arguments.size()) {
      options.config = arguments[++i];
    } else if (word.starts_with(kConfig) && word.substr(kConfig.size()).starts_with('=')) {
      options.config = word.substr(kConfig.size() + 1);
    } else if (word == "--help" || word == "-h") {
      options.help = true;
    } else if (word == "--version") {
      options.version = true;
    } else {
      return oakum::MakeError(EINVAL, "unknown argument \"" + oakum::Escape(word) +
                                          "\": oakum-hook takes --config FILE only");
    }
  }
  return options;
}

Expected<std::string> Guard(const Options& options) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): one thread
  const auto config =
      oakum::policy::LoadConfig(options.config, std::getenv(oakum::policy::kConfigVariable));
  if (!config) {
    return std::unexpected(config.error());
  }
  const auto policies =
      oakum::policy::PolicySet::Load(config->policy, oakum::policy::PolicyUse::kEnforce);
  if (!policies) {
    return std::unexpected(policies.error());
  }
  if (auto agent = oakum::hook::CheckAgent(config->socket); !agent) {
    return std::unexpected(std::move(agent.error()));
  }
  auto text = oakum::ReadAll(STDIN_FILENO, oakum::hook::kMaxConfigJson);
  if (!text) {
    return std::unexpected(std::move(text.error()).Context("config.json on standard input"));
  }
  const oakum::hook::MergeCache cache = oakum::hook::CacheBeside(config->socket);
  // Which runtime podman is going to use it does not say.
  return oakum::hook::GuardConfig(*text, {}, **policies, config->socket,
                                  oakum::hook::FilterFlags(*config, {}), &cache,
                                  oakum::oci::AbsentArchs());
}

int Fail(const oakum::Error& error) {
  const std::string message = oakum::hook::OneLine(error.what);
  std::fprintf(stderr, "%s: %s\n", kProgram, message.c_str());
  // podman throws stderr away.
  oakum::hook::ReportToSyslog(kProgram, message);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const auto options = ParseOptions({argv, static_cast<size_t>(argc)});
  if (!options) {
    return Fail(options.error());
  }
  if (options->help || options->version) {
    std::fputs(options->help ? kUsage : "oakum-hook " OAKUM_VERSION "\n", stdout);
    return 0;
  }
  const auto guarded = Guard(*options);
  if (!guarded) {
    return Fail(guarded.error());
  }
  if (auto written = oakum::WriteAll(STDOUT_FILENO, *guarded); !written) {
    return Fail(std::move(written.error()).Context("config.json on standard output"));
  }
  return 0;
}
