// A thread with an event loop of its own, for what goes on while no call waits: connections to
// proxies, relays, DNS, datagrams.
#ifndef OAKUM_AGENT_PROXY_WORKER_H_
#define OAKUM_AGENT_PROXY_WORKER_H_

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "agent/proxy/nursery.h"
#include "agent/proxy/pipe_pool.h"
#include "agent/proxy/wakefulness.h"
#include "agent/server/event_loop.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

class Worker {
 public:
  // `name` is the thread's (pthread_setname_np(3), at most 15 bytes). Errors: those of
  // epoll_create1(2), eventfd(2) and of starting a thread.
  [[nodiscard]] static Expected<std::unique_ptr<Worker>> Create(const std::string& name);
  // Stops the thread. Jobs that have not run yet are destroyed without having run.
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  // Only for jobs and callbacks of this worker, on its own thread.
  [[nodiscard]] EventLoop& loop() { return *loop_; }
  [[nodiscard]] PipePool& pipes() { return pipes_; }
  [[nodiscard]] Nursery& nursery() { return nursery_; }
  // Has `job` run on the worker's thread, after those posted before. Thread-safe.
  void Post(std::function<void()> job);
  // Whether it has had a job lately and looks for more: then a job takes no waking up. Thread-safe,
  // and out of date at once.
  [[nodiscard]] bool is_awake() const { return lively_.load(std::memory_order_relaxed); }
  // How many jobs wait for it. Thread-safe, and out of date at once.
  [[nodiscard]] size_t jobs() const { return job_count_.load(std::memory_order_relaxed); }
  // How many objects it keeps. Thread-safe, and out of date at once.
  [[nodiscard]] size_t load() const { return load_.load(std::memory_order_relaxed); }

  // Keeps an object that lives on this worker until Drop, or until the worker ends: then it goes
  // when the thread has stopped and before the loop does. Only on the worker's own thread.
  void Keep(std::shared_ptr<void> object);
  // The object goes now, unless somebody else holds it too.
  void Drop(const void* object);

 private:
  Worker(std::unique_ptr<EventLoop> loop, UniqueFd wake);
  void Loop();
  void Wake() const;
  // Whether there were any.
  bool RunJobs();

  const std::unique_ptr<EventLoop> loop_;
  const UniqueFd wake_;
  std::atomic<bool> stopping_{false};
  std::atomic<bool> asleep_{false};   // or about to sleep: it has to be woken up
  std::atomic<size_t> job_count_{0};  // of jobs_, without the lock
  std::atomic<bool> lively_{false};
  std::atomic<size_t> load_{0};
  std::mutex mutex_;
  std::vector<std::function<void()>> jobs_;
  Wakefulness wakefulness_;
  PipePool pipes_;
  Nursery nursery_;
  std::unordered_map<const void*, std::shared_ptr<void>> kept_;
  std::thread thread_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_WORKER_H_
