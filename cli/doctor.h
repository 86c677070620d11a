// What may be wrong with an installation, and what to do about it.
#ifndef OAKUM_CLI_DOCTOR_H_
#define OAKUM_CLI_DOCTOR_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cli/kernel_features.h"
#include "oci/json.h"
#include "policy/config.h"
#include "policy/locations.h"

namespace oakum::cli {

enum class Severity : uint8_t { kFine, kWarning, kError };

struct Finding {
  Severity severity = Severity::kFine;
  std::string check;   // what was looked at: "kernel", "policy", "docker"
  std::string what;    // what was found
  std::string advice;  // what to do; empty when there is nothing to do
};

// What the doctor asks of the world, so that tests can answer.
struct DoctorWorld {
  std::string root;  // in front of every path that is looked at; empty for the real one
  KernelFeatures kernel;
  policy::User user;  // an ordinary one looks after rootless podman, not after the machine
  // Runs a program and returns its standard output. Errors: it cannot be run, or fails.
  std::function<Expected<std::string>(const std::vector<std::string>& command)> run;
  // The answer of the agent whose control socket is there to {"op": "status"}.
  std::function<Expected<oci::Json>(const std::string& control_path)> ask_agent;
};

class Doctor {
 public:
  explicit Doctor(const DoctorWorld& world) : world_(world) {}

  // `config` is the configuration, or why there is none.
  [[nodiscard]] std::vector<Finding> Examine(const Expected<policy::Config>& config);

 private:
  void CheckKernel();
  void CheckPolicy(const policy::Config& config);
  void CheckAgent(const policy::Config& config);
  void CheckRuntimes(const policy::Config& config);
  void CheckUser();
  void CheckRuntime(const policy::Config& config, const std::string& path);
  // Whether signals wait for short calls of a container that this runtime starts.
  void CheckWaitKillable(const policy::Config& config, const std::string& path,
                         const std::string& version);
  void CheckPodman();
  void CheckDocker();
  void CheckDockerRuntimes(const oci::Json& daemon);
  void CheckDockerVersion(const std::string& program);

  void Ok(std::string_view check, std::string what);
  void Warn(std::string_view check, std::string what, std::string advice);
  void Fail(std::string_view check, std::string what, std::string advice);

  // Whether the path, below the root, is a file that can be executed.
  [[nodiscard]] bool IsExecutable(const std::string& path) const;
  // The path of a program, without the root; empty when it is not installed.
  [[nodiscard]] std::string FindProgram(std::string_view name) const;
  // Names of the files there that end in `suffix`, sorted; empty when there is no such directory.
  [[nodiscard]] std::vector<std::string> List(const std::string& directory,
                                              std::string_view suffix) const;
  [[nodiscard]] std::vector<std::string> PodmanHookDirectories() const;
  [[nodiscard]] bool is_rootless() const { return world_.user.uid != 0; }
  // Where podman looks for the user's containers.conf(5).
  [[nodiscard]] std::string UserContainers() const;

  const DoctorWorld& world_;
  std::vector<Finding> findings_;
};

// One line for each finding, "ok: kernel: ...".
[[nodiscard]] std::string RenderText(const std::vector<Finding>& findings);
[[nodiscard]] std::string RenderJson(const std::vector<Finding>& findings);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_DOCTOR_H_
