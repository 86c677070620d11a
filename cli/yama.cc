#include "cli/yama.h"

#include <cap-ng.h>

#include "base/file.h"

namespace oakum::cli {

bool MayLookBeside() {
  constexpr size_t kMaxNumber = 16;
  const auto scope = ReadFile("/proc/sys/kernel/yama/ptrace_scope", kMaxNumber);
  return !scope || scope->starts_with('0') ||
         (capng_get_caps_process() == 0 &&
          capng_have_capability(CAPNG_EFFECTIVE, CAP_SYS_PTRACE) != 0);
}

}  // namespace oakum::cli
