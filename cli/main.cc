#include <cstdlib>
#include <iostream>

#include "cli/oakum.h"
#include "policy/config.h"

int main(int argc, char** argv) {
  oakum::cli::Context context{.out = std::cout,
                              .err = std::cerr,
                              .config_variable = std::getenv(oakum::policy::kConfigVariable)};
  const int status = oakum::cli::RunOakum(argc, argv, context);
  std::cout.flush();
  if (!std::cout) {
    std::cerr << "oakum: cannot write to standard output\n";
    return oakum::cli::kUsage;
  }
  return status;
}
