// Some sixty situations of socket calls, each printed as one line "name: result". Run with and
// without a guard that allows everything, the two outputs are equal. Loopback only. With an
// argument, only the cases whose name contains it.
#include "support.h"

int main(int argc, char** argv) {
  using namespace oakum::fidelity;
  std::vector<Case> cases;
  AddConnectCases(cases);
  AddSendCases(cases);
  AddUnixCases(cases);
  AddIncomingCases(cases);
  for (const Case& one : cases) {
    if (argc > 1 && strstr(one.name, argv[1]) == nullptr) {
      continue;
    }
    const std::string line = std::string(one.name) + ": " + one.run() + "\n";
    if (write(1, line.data(), line.size()) < 0) {
      return 1;
    }
  }
  return 0;
}
