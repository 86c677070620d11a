// Threads for what may have to wait for a container, on behalf of calls that are over.
#ifndef OAKUM_AGENT_PROXY_ASIDE_H_
#define OAKUM_AGENT_PROXY_ASIDE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <unordered_map>

#include "agent/server/blocking_pool.h"

namespace oakum::agent {

// A socket of a container can be locked for as long as the container likes: workers, which serve
// all of them, leave to others what is done to it. Thread-safe.
class Aside {
 public:
  using Owner = BlockingPool::Owner;
  static constexpr size_t kMaxOfOwner = 1024;  // running and waiting

  Aside() = default;
  // Waits for what runs; what has not begun is destroyed without having run.
  ~Aside() = default;
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;

  // Has `job` run on a thread of its own. False when that owner has kMaxOfOwner already: then
  // nothing happens.
  [[nodiscard]] bool Run(Owner owner, std::function<void()> job);

 private:
  class Place;

  std::atomic<uint64_t> next_key_{0};
  std::mutex mutex_;
  std::unordered_map<Owner, size_t> of_owner_;
  BlockingPool pool_;  // first to go: its jobs have places
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_ASIDE_H_
