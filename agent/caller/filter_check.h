// Whether the filters of running containers still do what their policies need.
#ifndef OAKUM_AGENT_CALLER_FILTER_CHECK_H_
#define OAKUM_AGENT_CALLER_FILTER_CHECK_H_

#include <map>
#include <memory>
#include <string>

#include "agent/events/event.h"
#include "policy/filter_record.h"
#include "policy/policy.h"

namespace oakum::agent {

// Of one set of policies: what each needs is worked out once. Not thread-safe.
class FilterCheck {
 public:
  // Sets `gaps` of a source whose policy has been found. A filter of which nothing is known because
  // an earlier version made it (`assume`) counts as made for that policy.
  void Fill(EventSource& source, bool assume);
  // The policies have changed.
  void Forget() { needed_.clear(); }

 private:
  [[nodiscard]] const std::shared_ptr<const policy::FilterRecord>& Needed(
      const std::shared_ptr<const policy::Policy>& policy);

  std::map<std::shared_ptr<const policy::Policy>, std::shared_ptr<const policy::FilterRecord>>
      needed_;
};

// One line for the log, empty when there is nothing to say: which calls, a few of them by name.
[[nodiscard]] std::string DescribeGaps(const policy::FilterGaps& gaps);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLER_FILTER_CHECK_H_
