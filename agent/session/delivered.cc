#include "agent/session/delivered.h"

#include <algorithm>
#include <new>

namespace oakum::agent {

void Delivered::Remember(const Notification& call, const Result& result) {
  const std::lock_guard lock(mutex_);
  if (places_ == nullptr) {
    places_.reset(new (std::nothrow) Places());
  }
  if (places_ != nullptr) {
    PlaceOf(call.tid) = {call, result};
    any_.store(true, std::memory_order_release);
  }
}

std::optional<Delivered::Result> Delivered::Take(const Notification& call) {
  const std::lock_guard lock(mutex_);
  if (places_ == nullptr) {
    return std::nullopt;
  }
  Place& place = PlaceOf(call.tid);
  if (place.call.tid != call.tid) {
    return std::nullopt;
  }
  place.call.tid = 0;
  const bool same = place.call.nr == call.nr && place.call.arch == call.arch &&
                    place.call.instruction_pointer == call.instruction_pointer &&
                    std::ranges::equal(place.call.args, call.args);
  return same ? std::optional(place.result) : std::nullopt;
}

void Delivered::Forget() {
  const std::lock_guard lock(mutex_);
  places_.reset();
  any_.store(false, std::memory_order_release);
}

}  // namespace oakum::agent
