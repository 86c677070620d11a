#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "cli/oakum.h"
#include "cli/run_policy.h"
#include "policy/config.h"

int main(int argc, char** argv) {
  // First of all, so that credentials are readable by others as briefly as can be.
  const std::vector<std::string> arguments = oakum::cli::TakeArguments(argc, argv);
  oakum::cli::Context context{.out = std::cout,
                              .err = std::cerr,
                              .config_variable = std::getenv(oakum::policy::kConfigVariable),
                              .proxy_variable = oakum::cli::TakeProxyVariable(),
                              .may_fork = true};
  std::vector<const char*> words;
  words.reserve(arguments.size());
  for (const std::string& argument : arguments) {
    words.push_back(argument.c_str());
  }
  const int status = oakum::cli::RunOakum(argc, words.data(), context);
  std::cout.flush();
  if (!std::cout) {
    std::cerr << "oakum: cannot write to standard output\n";
    return oakum::cli::kUsage;
  }
  return status;
}
