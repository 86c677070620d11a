#include "agent/session/look_queue.h"

#include <iterator>

namespace oakum::agent {

void LookQueue::Add(Owner owner, uint64_t key) {
  auto place = places_.find(owner);
  if (place == places_.end()) {
    turns_.push_back({owner, {}, 0});
    place = places_.emplace(owner, std::prev(turns_.end())).first;
  }
  place->second->keys.push_back(key);
  ++size_;
}

void LookQueue::Look(size_t most, const std::function<bool(uint64_t key)>& look) {
  for (Turn& turn : turns_) {
    turn.left = turn.keys.size();
  }
  std::list<Turn> through;
  for (size_t looks = 0; looks < most && !turns_.empty();) {
    Turn& turn = turns_.front();
    const uint64_t key = turn.keys.front();
    turn.keys.pop_front();
    --turn.left;
    if (look(key)) {
      turn.keys.push_back(key);
      ++looks;
    } else {
      --size_;
    }
    if (turn.keys.empty()) {
      places_.erase(turn.owner);
      turns_.pop_front();
    } else {
      std::list<Turn>& next = turn.left > 0 ? turns_ : through;
      next.splice(next.end(), turns_, turns_.begin());
    }
  }
  turns_.splice(turns_.end(), through);
}

}  // namespace oakum::agent
