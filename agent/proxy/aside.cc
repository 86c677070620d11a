#include "agent/proxy/aside.h"

#include <memory>
#include <utility>

#include "agent/caller/identity.h"

namespace oakum::agent {

// One of an owner's, as long as the job is there.
class Aside::Place {
 public:
  Place(Aside& aside, Owner owner) : aside_(aside), owner_(owner) {}
  ~Place() {
    const std::lock_guard lock(aside_.mutex_);
    const auto found = aside_.of_owner_.find(owner_);
    if (--found->second == 0) {
      aside_.of_owner_.erase(found);
    }
  }
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;

 private:
  Aside& aside_;
  const Owner owner_;
};

bool Aside::Run(Owner owner, std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    size_t& count = of_owner_[owner];
    if (count >= kMaxOfOwner) {
      return false;
    }
    ++count;
  }
  pool_.Run(owner, next_key_.fetch_add(1),
            [place = std::make_shared<Place>(*this, owner), job = std::move(job)] {
              SetEffectiveCapabilities(kPerformerCapabilities);
              job();
            });
  return true;
}

}  // namespace oakum::agent
