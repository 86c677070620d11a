// What a worker carries that is still too young to be kept for the next agent.
#ifndef OAKUM_AGENT_PROXY_NURSERY_H_
#define OAKUM_AGENT_PROXY_NURSERY_H_

#include <chrono>
#include <list>
#include <optional>

#include "agent/server/event_loop.h"

namespace oakum::agent {

class Nursery;

// Something that can be kept. Ends on the thread of its worker, or after that has stopped.
class Keepable {
 public:
  Keepable() = default;
  virtual ~Keepable() = default;
  Keepable(const Keepable&) = delete;
  Keepable& operator=(const Keepable&) = delete;

  // Hands it over. False: not now, it is to be tried again.
  [[nodiscard]] virtual bool KeepNow() = 0;

 private:
  friend class Nursery;
  struct Child {
    EventLoop::Clock::time_point due;
    Keepable* who;
  };
  std::optional<std::list<Child>::iterator> place_;
};

// Handing over costs more than all else that is done for a short connection, so that only what has
// lived for a while is, all that is due at a time. Only on its worker's thread.
class Nursery {
 public:
  // What is killed with the agent before that age ends with it.
  static constexpr std::chrono::milliseconds kYoung{50};

  // `loop` outlives it.
  explicit Nursery(EventLoop& loop) : loop_(loop) {}
  ~Nursery() = default;
  Nursery(const Nursery&) = delete;
  Nursery& operator=(const Nursery&) = delete;

  void Enter(Keepable& one);
  // Nothing happens when it is not there.
  void Leave(Keepable& one);
  // All at once, and from here on each as it comes: this agent ends.
  void KeepAll();
  [[nodiscard]] bool ending() const { return ending_; }

 private:
  void Keep(EventLoop::Clock::time_point until);
  void Arm();

  EventLoop& loop_;
  std::list<Keepable::Child> children_;  // the oldest first
  bool armed_ = false;
  bool ending_ = false;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_NURSERY_H_
