// The `oakum` program as a function.
#ifndef OAKUM_CLI_OAKUM_H_
#define OAKUM_CLI_OAKUM_H_

#include "cli/command.h"

namespace oakum::cli {

// Parses the command line, runs the subcommand it names and returns the exit status. A bad command
// line is one line on context.err and status 2.
[[nodiscard]] int RunOakum(int argc, const char* const* argv, Context& context);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_OAKUM_H_
