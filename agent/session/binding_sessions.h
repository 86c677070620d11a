// Who may bind sockets to a network interface.
#ifndef OAKUM_AGENT_SESSION_BINDING_SESSIONS_H_
#define OAKUM_AGENT_SESSION_BINDING_SESSIONS_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace oakum::agent {

// Counts the sessions of one agent that let, or may once have let, a process bind a socket to a
// network interface (socket(7), SO_BINDTODEVICE). A socket may be in the hands of several
// containers, so what matters is not whose it is. Thread-safe.
class BindingSessions {
 public:
  // While it lives, there is one. Empty when moved from.
  class Place {
   public:
    Place() = default;
    explicit Place(std::shared_ptr<BindingSessions> of) : of_(std::move(of)) {
      of_->state_.fetch_add(kBegun + 1);
    }
    Place(Place&&) = default;
    Place& operator=(Place&&) = delete;
    ~Place() {
      if (of_ != nullptr) {
        of_->state_.fetch_sub(1);
      }
    }
    [[nodiscard]] bool taken() const { return of_ != nullptr; }

   private:
    std::shared_ptr<BindingSessions> of_;
  };

  // 0 while there is one. Else a number that is another one after there has been one: a socket that
  // was not bound when it was asked, after this number was read, is not bound while it is the same.
  [[nodiscard]] uint64_t Without() const {
    const uint64_t state = state_.load();
    return state % kBegun == 0 ? state / kBegun + 1 : 0;
  }

 private:
  // How many there have been, and in the lower half how many there are.
  static constexpr uint64_t kBegun = uint64_t{1} << 32;
  std::atomic<uint64_t> state_{0};
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SESSION_BINDING_SESSIONS_H_
