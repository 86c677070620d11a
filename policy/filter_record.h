// What a container's filter was made to do, as the agent has to know it later: a filter in the
// kernel cannot be changed any more, the policy can.
#ifndef OAKUM_POLICY_FILTER_RECORD_H_
#define OAKUM_POLICY_FILTER_RECORD_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "oci/seccomp_plan.h"

namespace oakum::policy {

// What a plan does with each system call that it names; "*" stands for all others where it refuses
// them. Compares as text, so that a record of another version means what it says: where the two
// versions plan a call differently, the filter is another one.
struct FilterRecord {
  // "SCOPE.ACTION". SCOPE: which arguments are not simply let through: "all", "none", or a hash.
  // ACTION: "n" asked about, "eERRNO" refused, or, where that depends on the arguments, a hash
  // after "c", or "x" when some are refused.
  std::map<std::string, std::string, std::less<>> calls;

  bool operator==(const FilterRecord&) const = default;
};

[[nodiscard]] FilterRecord RecordOf(const oci::SeccompPlan& plan);

// Where a filter does not do what a policy needs. Names of system calls, "*" for those that are
// named nowhere; sorted.
struct FilterGaps {
  std::vector<std::string> unseen;   // pass, wholly or in part, and nobody is asked
  std::vector<std::string> refused;  // fail, wholly or in part, where the policy would be asked

  [[nodiscard]] bool empty() const { return unseen.empty() && refused.empty(); }
  bool operator==(const FilterGaps&) const = default;
};
[[nodiscard]] FilterGaps FindGaps(const FilterRecord& filter, const FilterRecord& needed);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_FILTER_RECORD_H_
