// A shortage of threads, made by the kernel.
#ifndef OAKUM_TEST_UNIT_AGENT_NO_MORE_THREADS_H_
#define OAKUM_TEST_UNIT_AGENT_NO_MORE_THREADS_H_

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

namespace oakum::agent {

// A cgroup of this process in which no further thread can be started (pids.max), until it is
// opened.
class NoMoreThreads {
 public:
  NoMoreThreads() {
    std::ifstream groups("/proc/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
      const size_t name = line.find(':') + 1;
      const size_t path = line.find(':', name) + 1;
      const std::string controllers = line.substr(name, path - name - 1);
      if (controllers == "pids" || (controllers.empty() && before_.empty())) {
        before_ =
            (controllers == "pids" ? "/sys/fs/cgroup/pids" : "/sys/fs/cgroup") + line.substr(path);
      }
    }
    path_ = fmt::format("{}/oakum-test-{}", before_, getpid());
    std::error_code ignored;
    std::filesystem::create_directory(path_, ignored);
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    const auto threads = std::distance(begin(tasks), end(tasks));
    there_ = Write(path_ + "/pids.max", std::to_string(threads)) &&
             Write(path_ + "/cgroup.procs", std::to_string(getpid()));
  }
  ~NoMoreThreads() {
    (void)Write(before_ + "/cgroup.procs", std::to_string(getpid()));
    (void)rmdir(path_.c_str());
  }
  NoMoreThreads(const NoMoreThreads&) = delete;
  NoMoreThreads& operator=(const NoMoreThreads&) = delete;

  // False: this kernel or this user has no such cgroups.
  [[nodiscard]] bool there() const { return there_; }
  void Open() { (void)Write(path_ + "/pids.max", "max"); }

 private:
  static bool Write(const std::string& path, const std::string& text) {
    std::ofstream file(path);
    file << text;
    file.close();
    return !file.fail();
  }

  std::string before_;
  std::string path_;
  bool there_ = false;
};

// Threads that take what room is left: those of earlier tests (io_uring has some) end when they
// like, and each makes room for another one.
class ParkedThreads {
 public:
  ParkedThreads() = default;
  ~ParkedThreads() {
    go_.set_value();
    for (std::thread& thread : threads_) {
      thread.join();
    }
  }
  ParkedThreads(const ParkedThreads&) = delete;
  ParkedThreads& operator=(const ParkedThreads&) = delete;

  void Fill() {
    try {
      while (threads_.size() < 1000) {
        threads_.emplace_back([gone = gone_] { gone.wait(); });
      }
    } catch (const std::system_error&) {  // there is no room now
    }
  }

 private:
  std::promise<void> go_;
  const std::shared_future<void> gone_ = go_.get_future().share();
  std::vector<std::thread> threads_;
};

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_NO_MORE_THREADS_H_
