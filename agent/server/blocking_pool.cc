#include "agent/server/blocking_pool.h"

#include <csignal>
#include <memory>
#include <system_error>
#include <thread>

namespace oakum::agent {

namespace {

constexpr char kThreadName[] = "blocking";

// The handler does nothing: without SA_RESTART, its running is what ends a blocking call.
int InterruptSignal() { return SIGRTMIN + 2; }

void InstallHandler() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  sigemptyset(&action.sa_mask);
  (void)sigaction(InterruptSignal(), &action, nullptr);
}

}  // namespace

BlockingPool::BlockingPool() {
  InstallHandler();
  const std::lock_guard lock(mutex_);
  StartLasting();
}

BlockingPool::~BlockingPool() {
  std::deque<Waiting> waiting;  // goes without the lock
  std::unique_lock lock(mutex_);
  stopping_ = true;
  waiting.swap(queue_);
  called_.notify_all();
  short_of_threads_.notify_all();
  while (threads_ > 0) {
    for (const auto& [key, thread] : running_) {
      pthread_kill(thread, InterruptSignal());
    }
    ended_.wait_for(lock, std::chrono::milliseconds(5));
  }
  lock.unlock();
}

bool BlockingPool::TakeFirstBelow(size_t bound, Waiting& out) {
  for (auto it = queue_.begin(); it != queue_.end(); ++it) {
    const auto running = running_of_.find(it->owner);
    if (running == running_of_.end() || running->second < bound) {
      out = std::move(*it);
      queue_.erase(it);
      return true;
    }
  }
  return false;
}

bool BlockingPool::TakeNext(Waiting& out) { return TakeFirstBelow(kMaxThreadsPerOwner, out); }

bool BlockingPool::TakeStartable(Waiting& out) {
  return TakeFirstBelow(threads_ < kMaxThreads ? kMaxThreadsPerOwner : 1, out);
}

void BlockingPool::Run(Owner owner, uint64_t key, Job job) {
  const std::lock_guard lock(mutex_);
  StartLasting();
  queue_.push_back({owner, key, std::move(job)});
  Waiting next;
  if (idle_ > 0) {
    --idle_;
    ++calls_;
    called_.notify_one();
  } else if (threads_ < kMaxThreads) {
    if (TakeNext(next)) {
      StartThread(std::move(next));
    }
  } else if (const auto running = running_of_.find(owner);
             running == running_of_.end() || running->second == 0) {
    next = std::move(queue_.back());
    queue_.pop_back();
    StartThread(std::move(next));
  }
}

void BlockingPool::StartThread(Waiting first) {
  const Owner owner = first.owner;
  const auto job = std::make_shared<Waiting>(std::move(first));
  ++threads_;
  ++running_of_[owner];
  try {
    std::thread([this, job] { Work(std::move(*job)); }).detach();
  } catch (const std::system_error&) {
    --threads_;
    if (--running_of_[owner] == 0) {
      running_of_.erase(owner);
    }
    queue_.push_front(std::move(*job));
    shortage_ = true;
    short_of_threads_.notify_one();
  }
}

bool BlockingPool::TryStart(void (BlockingPool::*work)()) {
  ++threads_;
  try {
    std::thread([this, work] { (this->*work)(); }).detach();
    return true;
  } catch (const std::system_error&) {  // with the next job
    --threads_;
    return false;
  }
}

void BlockingPool::StartLasting() {
  lasting_ = lasting_ || TryStart(&BlockingPool::WorkToTheEnd);
  starter_ = starter_ || TryStart(&BlockingPool::EndShortages);
}

void BlockingPool::Work(Waiting first) {
  pthread_setname_np(pthread_self(), kThreadName);
  std::unique_lock lock(mutex_);
  RunAll(lock, first, false);
  --threads_;
  // Under the lock: once the destructor sees no thread it may free everything this thread uses.
  ended_.notify_all();
}

void BlockingPool::WorkToTheEnd() {
  pthread_setname_np(pthread_self(), kThreadName);
  std::unique_lock lock(mutex_);
  Waiting next;
  if (TakeNext(next) || WaitIdle(lock, next, true)) {
    ++running_of_[next.owner];
    RunAll(lock, next, true);
  }
  --threads_;
  ended_.notify_all();
}

void BlockingPool::EndShortages() {
  pthread_setname_np(pthread_self(), kThreadName);
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (!shortage_) {
      short_of_threads_.wait(lock, [this] { return shortage_ || stopping_; });
    } else if (!short_of_threads_.wait_for(lock, kShortageRetry, [this] { return stopping_; })) {
      shortage_ = false;
      for (Waiting next; !shortage_ && TakeStartable(next);) {
        StartThread(std::move(next));
      }
    }
  }
  --threads_;
  ended_.notify_all();
}

void BlockingPool::RunAll(std::unique_lock<std::mutex>& lock, Waiting& first, bool lasts) {
  for (bool more = true; more;) {
    running_.emplace(first.key, pthread_self());
    lock.unlock();
    first.job();
    first.job = nullptr;
    lock.lock();
    running_.erase(first.key);
    if (--running_of_[first.owner] == 0) {
      running_of_.erase(first.owner);
    }
    more = TakeNext(first) || WaitIdle(lock, first, lasts);
    if (more) {
      ++running_of_[first.owner];
    }
  }
}

bool BlockingPool::WaitIdle(std::unique_lock<std::mutex>& lock, Waiting& next, bool lasts) {
  const auto until = std::chrono::steady_clock::now() + kIdleFor;
  const auto is_called = [this] { return calls_ > 0 || stopping_; };
  bool called = true;
  while (called && !stopping_ && (lasts || idle_ < kMaxIdle)) {
    ++idle_;
    if (lasts) {
      called_.wait(lock, is_called);
    } else {
      called = called_.wait_until(lock, until, is_called);
    }
    if (calls_ > 0) {
      --calls_;  // whoever has called has counted it as not idle any more
    } else {
      --idle_;
    }
    if (called && !stopping_ && TakeNext(next)) {
      return true;
    }
  }
  return false;
}

bool BlockingPool::Interrupt(uint64_t key) {
  const std::lock_guard lock(mutex_);
  const auto found = running_.find(key);
  if (found != running_.end()) {
    pthread_kill(found->second, InterruptSignal());
    return true;
  }
  std::erase_if(queue_, [&](const Waiting& waiting) { return waiting.key == key; });
  return false;
}

void BlockingPool::InterruptAll() {
  const std::lock_guard lock(mutex_);
  queue_.clear();
  for (const auto& [key, thread] : running_) {
    pthread_kill(thread, InterruptSignal());
  }
}

}  // namespace oakum::agent
