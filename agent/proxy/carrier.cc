#include "agent/proxy/carrier.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <algorithm>
#include <thread>

#include "agent/proxy/netns.h"
#include "base/unique_fd.h"

namespace oakum::agent {

bool BusySockets::Begin(uint64_t cookie) {
  const std::lock_guard lock(mutex_);
  return cookies_.insert(cookie).second;
}

void BusySockets::End(uint64_t cookie) {
  const std::lock_guard lock(mutex_);
  cookies_.erase(cookie);
}

bool BusySockets::Has(uint64_t cookie) const {
  const std::lock_guard lock(mutex_);
  return cookies_.contains(cookie);
}

void OwnPorts::Add(uint64_t netns, uint16_t port) {
  const std::lock_guard lock(mutex_);
  ports_.emplace(netns, port);
}

void OwnPorts::Remove(uint64_t netns, uint16_t port) {
  const std::lock_guard lock(mutex_);
  if (const auto found = ports_.find({netns, port}); found != ports_.end()) {
    ports_.erase(found);
  }
}

bool OwnPorts::Has(uint64_t netns, uint16_t port) const {
  const std::lock_guard lock(mutex_);
  return ports_.contains({netns, port});
}

Carrier::Carrier(EventSink& events, const Log& log)
    : events_(events),
      log_(log),
      own_netns_(OwnNetworkCookie()),
      worker_count_(std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMaxWorkers)) {}

Carrier::~Carrier() = default;

Worker* Carrier::NextWorker() {
  const std::lock_guard lock(mutex_);
  if (workers_.size() < worker_count_) {
    auto worker = Worker::Create(fmt::format("carrier {}", workers_.size()));
    if (worker) {
      workers_.push_back(std::move(*worker));
    } else {
      log_.Error("cannot carry more connections: {}", worker.error().ToString());
    }
  }
  return workers_.empty() ? nullptr : workers_[next_++ % workers_.size()].get();
}

std::shared_ptr<Gates> ContainerCarrier::gates() const {
  const std::lock_guard lock(mutex_);
  return gates_;
}

std::shared_ptr<Gates> ContainerCarrier::SetGates(std::shared_ptr<Gates> gates) {
  const std::lock_guard lock(mutex_);
  if (gates_ == nullptr && !closed_) {
    gates_ = std::move(gates);
  }
  return gates_;
}

void ContainerCarrier::Close() {
  std::shared_ptr<Gates> gates;
  const std::lock_guard lock(mutex_);
  closed_ = true;
  gates.swap(gates_);
}

}  // namespace oakum::agent
