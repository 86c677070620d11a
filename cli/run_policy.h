// The policy of `oakum run`: a file's, or one made of options.
#ifndef OAKUM_CLI_RUN_POLICY_H_
#define OAKUM_CLI_RUN_POLICY_H_

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "policy/policy_set.h"

namespace oakum::cli {

inline constexpr char kProxyVariable[] = "OAKUM_PROXY";  // stands for --proxy

struct RunPolicyOptions {
  std::optional<std::string> policy;
  std::optional<std::string> name;
  std::optional<std::string> mode;
  std::vector<std::string> allow;
  std::vector<std::string> deny;
  std::optional<std::string> proxy;  // a URL, or "@FILE" whose first line is one
  std::optional<std::string> isolate;
  std::optional<std::string> resolve;
};

// What is wrong with options that are at odds; empty when nothing is.
[[nodiscard]] std::string Conflict(const RunPolicyOptions& options);

// The policies of the file, or one that the options make. Errors: EINVAL and those of reading;
// without credentials.
[[nodiscard]] Expected<std::shared_ptr<const policy::PolicySet>> LoadPolicies(
    const RunPolicyOptions& options);

// The one that is meant. Errors: EINVAL, ENOENT.
[[nodiscard]] Expected<const policy::Policy*> ChoosePolicy(const policy::PolicySet& set,
                                                           const RunPolicyOptions& options);

// Takes credentials out of the argument list itself, where every user of the machine can read them
// (proc(5), /proc/PID/cmdline): "--proxy URL" and "--proxy=URL" keep the URL without user and
// password. Returns the arguments as they were.
[[nodiscard]] std::vector<std::string> TakeArguments(int argc, char** argv);

// Takes OAKUM_PROXY out of the environment, so that no program inherits it.
[[nodiscard]] std::optional<std::string> TakeProxyVariable();

}  // namespace oakum::cli

#endif  // OAKUM_CLI_RUN_POLICY_H_
