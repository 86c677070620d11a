// Why a policy decides as it does: the same answer as Policy::Decide, found by looking at every
// rule, and the rules that had a say.
#ifndef OAKUM_POLICY_EXPLAIN_H_
#define OAKUM_POLICY_EXPLAIN_H_

#include <string>
#include <vector>

#include "policy/policy.h"
#include "policy/request.h"

namespace oakum::policy {

// A rule that covers the address of the request but does not decide.
struct OtherRule {
  std::string rule;      // "outgoing.allow 10.0.0.0/8"
  std::string place;     // "FILE:LINE"
  std::string why;       // "its prefix is shorter (/8 against /32)", "it is for other ports"
  bool applies = false;  // whether it would have decided had there been no better one
};

struct Explanation {
  Verdict verdict = Verdict::kDeny;
  std::string rule;                // Decision::rule
  Carry carry = Carry::kDirect;    // Decision::carry
  const Proxy* proxy = nullptr;    // Decision::proxy
  std::string place;               // "FILE:LINE" of that rule; empty when no rule decided
  std::vector<std::string> notes;  // what was made of the request before rules were looked at
  std::vector<OtherRule> others;   // the nearest first
};

[[nodiscard]] Explanation Explain(const Policy& policy, const InetRequest& request);
[[nodiscard]] Explanation Explain(const Policy& policy, const UnixRequest& request);
// A kConnect or kSend to the name (in its normal form) wherever it leads: `request` has operation,
// transport and the port.
[[nodiscard]] Explanation ExplainName(const Policy& policy, const InetRequest& request,
                                      const std::string& name);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_EXPLAIN_H_
