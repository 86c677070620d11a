#include "agent/proxy/worker.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <csignal>
#include <system_error>
#include <utility>

#include "agent/caller/identity.h"

namespace oakum::agent {

Worker::Worker(std::unique_ptr<EventLoop> loop, UniqueFd wake)
    : loop_(std::move(loop)), wake_(std::move(wake)), nursery_(*loop_) {}

Expected<std::unique_ptr<Worker>> Worker::Create(const std::string& name) {
  auto loop = EventLoop::Create();
  if (!loop) {
    return std::unexpected(std::move(loop.error()));
  }
  UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) {
    return ErrnoError("eventfd");
  }
  std::unique_ptr<Worker> worker(new Worker(std::move(*loop), std::move(wake)));
  if (auto added = worker->loop_->Add(worker->wake_.get(), EPOLLIN,
                                      [wake_fd = worker->wake_.get()](uint32_t) {
                                        uint64_t ignored = 0;
                                        [[maybe_unused]] const ssize_t got =
                                            read(wake_fd, &ignored, sizeof ignored);
                                      });
      !added) {
    return std::unexpected(std::move(added.error()));
  }
  try {
    worker->thread_ = std::thread([self = worker.get(), name] {
      pthread_setname_np(pthread_self(), name.c_str());
      SetEffectiveCapabilities(kPerformerCapabilities);
      // splice(2) to a socket whose peer has gone raises it, and has no MSG_NOSIGNAL.
      sigset_t pipe = {};
      sigemptyset(&pipe);
      sigaddset(&pipe, SIGPIPE);
      pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
      self->Loop();
    });
  } catch (const std::system_error& error) {
    return MakeError(error.code().value(), "start a worker thread");
  }
  return worker;
}

Worker::~Worker() {
  stopping_.store(true);
  Wake();
  if (thread_.joinable()) {
    thread_.join();
  }
  // Outside the map, as what goes may Drop others.
  const auto kept = std::move(kept_);
}

void Worker::Keep(std::shared_ptr<void> object) {
  const void* key = object.get();
  kept_.emplace(key, std::move(object));
  load_.store(kept_.size(), std::memory_order_relaxed);
}

void Worker::Drop(const void* object) {
  const auto node = kept_.extract(object);
  load_.store(kept_.size(), std::memory_order_relaxed);
}

void Worker::Post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
    job_count_.store(jobs_.size());
  }
  if (asleep_.exchange(false)) {
    Wake();
  }
}

void Worker::Wake() const {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t put = write(wake_.get(), &one, sizeof one);
}

void Worker::Loop() {
  constexpr auto kLong = std::chrono::hours(24);
  const auto look = [this] {
    const auto ran = loop_->RunOnce({});
    return jobs() != 0 || !ran || *ran;
  };
  while (!stopping_.load()) {
    if (RunJobs()) {
      wakefulness_.Job();
      lively_.store(true, std::memory_order_relaxed);
    }
    if (wakefulness_.Waits(look)) {
      continue;
    }
    lively_.store(false, std::memory_order_relaxed);
    // Either whoever posts a job sees that this sleeps, or this sees the job.
    asleep_.store(true);
    if (job_count_.load() == 0 && !loop_->RunOnce(kLong)) {
      return;
    }
    asleep_.store(false);
  }
}

bool Worker::RunJobs() {
  if (jobs() == 0) {
    return false;
  }
  std::vector<std::function<void()>> jobs;
  {
    const std::lock_guard lock(mutex_);
    jobs.swap(jobs_);
    job_count_.store(0);
  }
  for (const auto& job : jobs) {
    job();
  }
  return true;
}

}  // namespace oakum::agent
