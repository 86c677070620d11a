// Whose turn it is to be looked at, where there may be more than can be.
#ifndef OAKUM_AGENT_SESSION_LOOK_QUEUE_H_
#define OAKUM_AGENT_SESSION_LOOK_QUEUE_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <unordered_map>

namespace oakum::agent {

// Owners take turns, and an owner's keys take turns with each other: whoever has ten thousand of
// them does not keep another's one from being looked at. Not thread-safe.
class LookQueue {
 public:
  using Owner = const void*;

  // Each key at most once.
  void Add(Owner owner, uint64_t key);
  // Calls `look` for the next keys, at most `most` and each at most once; a key for which it
  // returns false is taken out, and not counted.
  void Look(size_t most, const std::function<bool(uint64_t key)>& look);
  // Keys that have not been taken out.
  [[nodiscard]] size_t size() const { return size_; }

 private:
  struct Turn {
    Owner owner;
    std::deque<uint64_t> keys;
    size_t left;  // in this round
  };
  // In the order in which they are next.
  std::list<Turn> turns_;
  std::unordered_map<Owner, std::list<Turn>::iterator> places_;
  size_t size_ = 0;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_LOOK_QUEUE_H_
