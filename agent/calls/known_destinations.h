// What a policy has said of the destinations that were asked for last.
#ifndef OAKUM_AGENT_CALLS_KNOWN_DESTINATIONS_H_
#define OAKUM_AGENT_CALLS_KNOWN_DESTINATIONS_H_

#include <array>
#include <cstddef>
#include <optional>

#include "policy/policy.h"

namespace oakum::agent {

// A policy that neither names domains nor has anything carried says the same of an operation, a
// protocol and an address each time. Of one policy: Begin() with each other one. Not thread-safe.
class KnownDestinations {
 public:
  // Forgets what another policy has said. `policy`: null for none; it outlives what is asked here.
  void Begin(const policy::Policy* policy) {
    *this = {};
    lasts_ = policy != nullptr && !policy->carries() && !policy->names_domains();
  }
  // Whether decisions of the policy are remembered: names do not matter to it then.
  [[nodiscard]] bool lasts() const { return lasts_; }

  // The decision about that request, which is kConnect or kSend and has no names; null when it is
  // not remembered.
  [[nodiscard]] const policy::Decision* Find(const policy::InetRequest& request) const {
    const Place& place = places_[PlaceOf(request.remote)];
    return place.decision && place.operation == request.operation &&
                   place.transport == request.transport && place.remote == request.remote
               ? &*place.decision
               : nullptr;
  }
  void Keep(const policy::InetRequest& request, const policy::Decision& decision) {
    if (lasts_) {
      places_[PlaceOf(request.remote)] = {request.operation, request.transport, request.remote,
                                          decision};
    }
  }

 private:
  struct Place {
    policy::Operation operation = policy::Operation::kConnect;
    policy::Transport transport = policy::Transport::kOther;
    policy::Endpoint remote;
    std::optional<policy::Decision> decision;
  };
  // By the end of address and port; one with the same takes another's place.
  static constexpr size_t kPlaces = 16;
  [[nodiscard]] static size_t PlaceOf(const policy::Endpoint& remote) {
    return (size_t{remote.ip.bytes()[15]} + remote.port) % kPlaces;
  }

  bool lasts_ = false;
  std::array<Place, kPlaces> places_{};
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_CALLS_KNOWN_DESTINATIONS_H_
