// What a destination is, before and after rules are looked at: shared by the decision and by its
// explanation. Private to policy/.
#ifndef OAKUM_POLICY_DESTINATION_H_
#define OAKUM_POLICY_DESTINATION_H_

#include "policy/compiled.h"
#include "policy/request.h"

namespace oakum::policy {

// One address of a request (a carrier has two), canonical.
struct Destination {
  const IpAddress& ip;
  const InetRequest& request;  // port, transport and names
  bool query = false;          // port 53, which "dns" is about
  bool closed = false;         // a query where only rules count that say so
  bool synthetic = false;      // the address stands for a name
  bool anywhere = false;       // of rules for addresses, those for every address count alone
  bool docker =
      false;  // Docker's resolver on a port of its choice: only a rule for it alone counts

  [[nodiscard]] static Destination Of(const CompiledPolicy& policy, const IpAddress& ip,
                                      const InetRequest& request);
  // Whether it stands for a name that nobody knows (any more).
  [[nodiscard]] bool IsUnknown() const { return synthetic && !query && request.names.empty(); }
};

[[nodiscard]] Decision DecisionOf(const AddressRule& rule);
// The answer where no rule has one.
[[nodiscard]] Decision WithoutRule(const CompiledPolicy& policy, const Destination& destination);
// How the decision, of a rule or without one, is carried.
[[nodiscard]] Decision Settle(const CompiledPolicy& policy, const Destination& destination,
                              Decision decision);
// Whether `a` is stricter than `b`.
[[nodiscard]] bool IsStricter(const Decision& a, const Decision& b);

[[nodiscard]] Decision DecideDestination(const CompiledPolicy& policy, const InetRequest& request);

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_DESTINATION_H_
