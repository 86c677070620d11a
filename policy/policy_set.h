// All policies of a file or directory, and which container gets which.
#ifndef OAKUM_POLICY_POLICY_SET_H_
#define OAKUM_POLICY_POLICY_SET_H_

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "policy/container.h"
#include "policy/policy.h"

namespace oakum::policy {

// Files that everybody can change (CheckNotEverybodysToChange) may be looked at, not enforced.
enum class PolicyUse : bool { kLookAt, kEnforce };

class PolicySet {
 public:
  static constexpr size_t kMaxFileSize = size_t{64} << 20;  // bytes of one policy file
  static constexpr size_t kMaxFiles = 1024;                 // of one directory

  // Reads one file, or all *.json and *.jsonc of a directory in the order of their names (policies
  // and proxies of all files form one name space; container rules are concatenated).
  // Errors: "FILE:LINE:COLUMN: what is wrong; a suggestion". What a later version brings to life is
  // refused here with "not built yet". EPERM where `use` forbids it.
  [[nodiscard]] static Expected<std::shared_ptr<const PolicySet>> Load(
      const std::string& path, PolicyUse use = PolicyUse::kLookAt);
  // The same from memory; `name` stands for the file in messages.
  [[nodiscard]] static Expected<std::shared_ptr<const PolicySet>> Parse(std::string_view text,
                                                                        std::string_view name);

  // The policy of that name, or null. Lives as long as the set.
  [[nodiscard]] const Policy* Find(std::string_view name) const;
  // The policy of the first container rule that matches. Errors: ENOENT when none matches or when
  // an annotation names a policy that does not exist (the container must not start unguarded).
  [[nodiscard]] Expected<const Policy*> Match(const ContainerFacts& facts) const;
  // The same, and which rule it was ("FILE:LINE").
  struct Choice {
    const Policy* policy = nullptr;
    std::string rule;
  };
  [[nodiscard]] Expected<Choice> Choose(const ContainerFacts& facts) const;
  [[nodiscard]] std::vector<std::string> names() const;
  [[nodiscard]] size_t container_rules() const;

 private:
  struct Impl;
  explicit PolicySet(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;
};

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_POLICY_SET_H_
