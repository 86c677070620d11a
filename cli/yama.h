// Whether a process may be looked into that is no descendant (Yama).
#ifndef OAKUM_CLI_YAMA_H_
#define OAKUM_CLI_YAMA_H_

namespace oakum::cli {

// False where /proc/sys/kernel/yama/ptrace_scope says so and this process has no CAP_SYS_PTRACE
// (Documentation/admin-guide/LSM/Yama.rst).
[[nodiscard]] bool MayLookBeside();

}  // namespace oakum::cli

#endif  // OAKUM_CLI_YAMA_H_
