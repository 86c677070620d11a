// Threads that may block in a system call for a container; the stand-in for io_uring.
#ifndef OAKUM_AGENT_SERVER_BLOCKING_POOL_H_
#define OAKUM_AGENT_SERVER_BLOCKING_POOL_H_

#include <pthread.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>

namespace oakum::agent {

// Runs jobs on threads of their own, as many at once as the bounds allow; the rest waits in the
// order it came. An owner of whom nothing runs gets a thread beyond the bound of all, so that
// owners whose jobs are stuck, however many, cannot keep another from running at all. A few threads
// stay for kIdleFor after their last job, since starting one takes longer than most jobs. One stays
// for good: where no other can be started (pthread_create(3), EAGAIN), jobs wait for it, or for
// another one, which is tried to be started again and again: a job that is stuck holds up others as
// long as there is room for no thread, and no longer.
class BlockingPool {
 public:
  static constexpr size_t kMaxThreads = 512;
  static constexpr size_t kMaxThreadsPerOwner = 64;
  static constexpr size_t kMaxIdle = 4;
  static constexpr std::chrono::seconds kIdleFor{2};
  static constexpr std::chrono::milliseconds kShortageRetry{20};

  using Owner = const void*;
  using Job = std::function<void()>;

  BlockingPool();
  // Waits for all jobs: whoever owns the pool interrupts them first.
  ~BlockingPool();
  BlockingPool(const BlockingPool&) = delete;
  BlockingPool& operator=(const BlockingPool&) = delete;

  // Queues `job` under `key` (unique among the jobs that have not ended).
  void Run(Owner owner, uint64_t key, Job job);
  // Makes a blocking system call of that job's thread return EINTR, or takes the job out of the
  // queue. The signal may come just before the call: true means that the job runs and it has to be
  // repeated.
  [[nodiscard]] bool Interrupt(uint64_t key);
  void InterruptAll();

 private:
  struct Waiting {
    Owner owner;
    uint64_t key;
    Job job;
  };
  // The next job whose owner is below its bound; with the lock held.
  [[nodiscard]] bool TakeNext(Waiting& out);
  // The next one that may have a thread started for it.
  [[nodiscard]] bool TakeStartable(Waiting& out);
  [[nodiscard]] bool TakeFirstBelow(size_t bound, Waiting& out);
  // Puts `first` at the head of the queue where no thread can be started.
  void StartThread(Waiting first);
  // The two that stay.
  void StartLasting();
  [[nodiscard]] bool TryStart(void (BlockingPool::*work)());
  void Work(Waiting first);
  void WorkToTheEnd();
  void EndShortages();
  // Runs `first` and what comes after it without a pause; with the lock held.
  void RunAll(std::unique_lock<std::mutex>& lock, Waiting& first, bool lasts);
  // Waits for a job that an idle thread is to take, one that `lasts` until the pool ends; with the
  // lock held.
  [[nodiscard]] bool WaitIdle(std::unique_lock<std::mutex>& lock, Waiting& next, bool lasts);

  std::mutex mutex_;
  std::condition_variable ended_;  // a thread has
  std::condition_variable called_;
  std::condition_variable short_of_threads_;
  size_t idle_ = 0;   // threads that wait and have not been called
  size_t calls_ = 0;  // for those that have
  bool stopping_ = false;
  std::deque<Waiting> queue_;
  std::map<uint64_t, pthread_t> running_;
  std::map<Owner, size_t> running_of_;
  size_t threads_ = 0;
  bool lasting_ = false;   // there is the one that stays
  bool starter_ = false;   // there is the one that ends shortages
  bool shortage_ = false;  // jobs wait for which no thread could be started
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SERVER_BLOCKING_POOL_H_
