// The `linux.seccomp` section of a config.json as values, read as runc and crun read it.
#ifndef OAKUM_OCI_SECCOMP_SECTION_H_
#define OAKUM_OCI_SECCOMP_SECTION_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "oci/json.h"
#include "oci/seccomp_plan.h"

namespace oakum::oci {

enum class ActionKind : uint8_t {
  kAllow,
  kLog,
  kNotify,
  kErrno,
  kTrace,
  kTrap,
  kKillThread,  // SCMP_ACT_KILL is another name of it
  kKillProcess,
};

// An action of the filter. `data` is the errno of kErrno and the message of kTrace, 0 otherwise.
struct SeccompAction {
  ActionKind kind = ActionKind::kAllow;
  uint16_t data = 0;

  bool operator==(const SeccompAction&) const = default;
  // Whether the call goes ahead by itself.
  [[nodiscard]] bool Lets() const { return kind == ActionKind::kAllow || kind == ActionKind::kLog; }
};

// One entry of `syscalls`. Both runtimes skip it when its action, errno included, is the default.
struct SeccompRule {
  std::vector<std::string> names;
  SeccompAction action;
  std::vector<ArgCondition> args;  // as written: an index may occur more than once
};

// The alternatives that both runtimes make of one rule: itself, or, when some argument has several
// conditions, one rule for each condition.
[[nodiscard]] std::vector<std::vector<ArgCondition>> Alternatives(const SeccompRule& rule);

struct SeccompSection {
  SeccompAction default_action;
  std::vector<std::string> architectures;  // "SCMP_ARCH_X86_64"; empty: the native one only
  std::vector<SeccompRule> rules;          // in the order of `syscalls`
  std::optional<std::vector<std::string>> flags;
  std::string listener_path;  // empty: none
};

// Reads the section. Errors: EINVAL with the path of what is wrong ("syscalls[3].args[0].op: ...");
// also for a key that differs from a known one only in case, since runc (Go) takes it for the same.
[[nodiscard]] Expected<SeccompSection> ParseSeccompSection(const Json& section);

// Errors with EINVAL when `object` has a key that Go's encoding/json would take for one of `known`
// though it is written differently (it folds case): runc would act on what others do not see.
[[nodiscard]] Expected<void> RefuseFoldedKeys(const Json& object,
                                              std::initializer_list<std::string_view> known);

// The condition as an element of `args`.
[[nodiscard]] Json ToJson(const ArgCondition& condition);
// A rule as an element of `syscalls`.
[[nodiscard]] Json ToJson(std::string_view name, const SeccompAction& action,
                          const std::vector<ArgCondition>& conditions);

// What the merge has to know of an architecture: its token of the runtime specification, whether
// libseccomp compares its registers with 32 bits, and whether it turns rules of socket and ipc
// calls into rules of socketcall(2) and ipc(2) as well (see oci/multiplexer.h).
struct SeccompArch {
  std::string_view token;
  bool is_32_bit;
  bool has_multiplexers;
  uint32_t libseccomp;  // SCMP_ARCH_*, which is AUDIT_ARCH_* but for x32
};
// The architecture that `token` names, with or without "SCMP_ARCH_"; nullptr when unknown.
[[nodiscard]] const SeccompArch* FindArch(std::string_view token);
// The architecture this program runs on.
[[nodiscard]] const SeccompArch* NativeArch();
// The tokens of the native architecture and those whose calls its kernel takes as well.
[[nodiscard]] std::vector<std::string> NativeAndCompatibleArchs();

}  // namespace oakum::oci

#endif  // OAKUM_OCI_SECCOMP_SECTION_H_
