// oakum policy reload.
#ifndef OAKUM_CLI_POLICY_RELOAD_H_
#define OAKUM_CLI_POLICY_RELOAD_H_

#include "cli/command.h"

namespace oakum::cli {

// Adds the command below `oakum policy`: the running agent reads its policy again. Exit status 1
// and what is wrong where it is refused.
void AddPolicyReload(CLI::App& parent, Context& context);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_POLICY_RELOAD_H_
