// How much an agent keeps open for its containers at a time.
#ifndef OAKUM_AGENT_PROXY_RELAY_SLOTS_H_
#define OAKUM_AGENT_PROXY_RELAY_SLOTS_H_

#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace oakum::agent {

class RelayShare;

// A slot for each thing that a container can have the agent keep for as long as it likes, in
// descriptors of the agent's: connections in one object of this class, what carries datagrams in
// another. One container has at most half of them, so that the others are not without, and each has
// kAlways in any case. Thread-safe.
class RelaySlots {
 public:
  static constexpr size_t kAlways = 32;

  explicit RelaySlots(size_t max) : max_(max) {}
  RelaySlots(const RelaySlots&) = delete;
  RelaySlots& operator=(const RelaySlots&) = delete;

  // An eighth of RLIMIT_NOFILE (getrlimit(2)): a connection is two descriptors, four while it waits
  // for a proxy, and six while bytes are under way that nobody reads.
  [[nodiscard]] static size_t MaxByLimit();

 private:
  friend class RelayShare;

  const size_t max_;
  std::mutex mutex_;
  size_t taken_ = 0;
};

// One of them, which goes back with this object. Empty when made by default or moved from.
class RelaySlot {
 public:
  RelaySlot() = default;
  RelaySlot(RelaySlot&& other) noexcept = default;
  RelaySlot& operator=(RelaySlot&& other) noexcept {
    RelaySlot(std::move(other)).share_.swap(share_);
    return *this;
  }
  ~RelaySlot();
  explicit operator bool() const { return share_ != nullptr; }

 private:
  friend class RelayShare;
  explicit RelaySlot(std::shared_ptr<RelayShare> share) : share_(std::move(share)) {}

  std::shared_ptr<RelayShare> share_;
};

// Those of one container; lives as long as one of its slots. Thread-safe.
class RelayShare : public std::enable_shared_from_this<RelayShare> {
 public:
  // `all` outlives the share and its slots.
  [[nodiscard]] static std::shared_ptr<RelayShare> Create(RelaySlots& all);
  RelayShare(const RelayShare&) = delete;
  RelayShare& operator=(const RelayShare&) = delete;

  // Nothing when there is none left for this container.
  [[nodiscard]] std::optional<RelaySlot> Take();

 private:
  friend class RelaySlot;
  explicit RelayShare(RelaySlots& all) : all_(all) {}
  void GiveBack();

  RelaySlots& all_;
  size_t taken_ = 0;  // under the mutex of all_
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_RELAY_SLOTS_H_
