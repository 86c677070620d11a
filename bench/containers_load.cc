// Many containers for one agent, each of them one process: `oakum-containers-load --socket PATH
// --count N` registers so many, as a runtime does with the descriptor of its listener and a state,
// and says "ready"; with `--bare` they have no filter and nobody is told. Each line on its standard
// input, "ACTIVE CALLS PAUSE", then has the first ACTIVE of them make CALLS connects of a datagram
// socket each, all at once, PAUSE microseconds after one another; the answer is one line of JSON.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <semaphore.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <iostream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/unique_fd.h"
#include "policy/container.h"

namespace oakum::bench {

namespace {

constexpr size_t kWarmUp = 20;  // the first calls find nothing in its place

// A container, in memory that its process shares with this one.
struct Container {
  sem_t go;
  size_t calls;
  unsigned pause_us;
  double median;
  double p99;
  bool failed;
};

struct Shared {
  sem_t ready;  // posted by each when it is registered
  sem_t done;   // posted by each that was told to call
};

template <typename T>
std::span<T> Share(size_t count) {
  void* memory = mmap(nullptr, std::max<size_t>(1, count) * sizeof(T), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? std::span<T>() : std::span<T>(static_cast<T*>(memory), count);
}

void Wait(sem_t& semaphore) {
  while (sem_wait(&semaphore) != 0 && errno == EINTR) {
  }
}

double Nanoseconds() {
  timespec now = {};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

// Asks about connect(2) and nothing else. What the agent does for a call does not depend on how
// many instructions the filter has; building Oakum's own would take longer than the rest.
int InstallFilter() {
  std::array program = {
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter = {program.size(), program.data()};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return static_cast<int>(
      syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter));
}

bool Send(int socket_fd, std::string text, int fd) {
  iovec piece = {text.data(), text.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  return sendmsg(socket_fd, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

// "Container process state" (runtime-spec config-linux.md), with what runc 1.1 puts in.
std::string State(size_t number) {
  policy::ContainerFacts facts;
  facts.name = fmt::format("c{}", number);
  facts.image = "bench:latest";
  const std::string metadata = policy::EncodeListenerMetadata({"p", std::move(facts)});
  std::string quoted;
  for (const char c : metadata) {
    quoted += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
  }
  return fmt::format(
      R"({{"ociVersion":"1.0.2","fds":["seccompFd"],"pid":{0},"metadata":"{1}","state":)"
      R"({{"ociVersion":"1.0.2","id":"{2:064x}","status":"creating","pid":{0},"bundle":"/"}}}})",
      getpid(), quoted, number + 1);
}

bool Register(const std::string& path, size_t number) {
  const UniqueFd agent(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return false;
  }
  memcpy(address.sun_path, path.data(), path.size());
  if (connect(agent.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return false;
  }
  const UniqueFd listener(InstallFilter());
  return listener.valid() && Send(agent.get(), State(number), listener.get());
}

void Call(Container& self) {
  const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(9);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  std::vector<double> samples;
  samples.reserve(self.calls);
  for (size_t i = 0; i < kWarmUp + self.calls; ++i) {
    if (self.pause_us != 0) {
      usleep(self.pause_us);
    }
    const double start = Nanoseconds();
    self.failed |= connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0;
    if (i >= kWarmUp) {
      samples.push_back(Nanoseconds() - start);
    }
  }
  close(fd);
  std::ranges::sort(samples);
  self.median = samples[samples.size() / 2];
  self.p99 = samples[samples.size() * 99 / 100];
}

[[noreturn]] void Live(Shared& shared, Container& self) {
  sem_post(&shared.ready);
  for (;;) {
    Wait(self.go);
    Call(self);
    sem_post(&shared.done);
  }
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// One line of the input.
bool Measure(Shared& shared, std::span<Container> active, size_t calls, unsigned pause_us) {
  const double start = Nanoseconds();
  for (Container& container : active) {
    container.calls = calls;
    container.pause_us = pause_us;
    sem_post(&container.go);
  }
  for (size_t i = 0; i < active.size(); ++i) {
    Wait(shared.done);
  }
  const double wall = Nanoseconds() - start;
  std::vector<double> medians;
  std::vector<double> tails;
  for (const Container& container : active) {
    medians.push_back(container.median);
    tails.push_back(container.p99);
    if (container.failed) {
      fmt::print(stderr, "oakum-containers-load: a connect failed\n");
      return false;
    }
  }
  const size_t made = active.size() * (calls + kWarmUp);
  fmt::print(
      "{{\"calls\": {}, \"ns_per_call\": {:.1f}, \"median_ns\": {:.1f}, \"p99_ns\": {:.1f}}}\n",
      made, wall / static_cast<double>(made), Median(medians), Median(tails));
  (void)fflush(stdout);
  return true;
}

int Run(const std::string& path, size_t count, bool bare) {
  const auto shared = Share<Shared>(1);
  const auto containers = Share<Container>(count);
  if (shared.empty() || containers.empty()) {
    return 1;
  }
  sem_init(&shared[0].ready, 1, 0);
  sem_init(&shared[0].done, 1, 0);
  for (size_t i = 0; i < count; ++i) {
    sem_init(&containers[i].go, 1, 0);
    const pid_t pid = fork();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      if (!bare && !Register(path, i)) {
        perror("oakum-containers-load: registering a container");
        containers[i].failed = true;
      }
      Live(shared[0], containers[i]);
    }
    if (pid < 0) {
      perror("oakum-containers-load: fork");
      return 1;
    }
    Wait(shared[0].ready);
    if (containers[i].failed) {
      return 1;
    }
  }
  fmt::print("ready\n");
  (void)fflush(stdout);
  size_t active = 0;
  size_t calls = 0;
  unsigned pause_us = 0;
  while (std::cin >> active >> calls >> pause_us) {
    if (active == 0 || active > count || calls == 0 ||
        !Measure(shared[0], containers.first(active), calls, pause_us)) {
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace oakum::bench

int main(int argc, char** argv) {
  CLI::App app("Many containers for one agent");
  std::string path;
  size_t count = 1;
  bool bare = false;
  app.add_option("--socket", path, "the agent's");
  app.add_option("--count", count, "containers")->check(CLI::Range(1, 8000));
  app.add_flag("--bare", bare, "without a filter");
  CLI11_PARSE(app, argc, argv);
  return oakum::bench::Run(path, count, bare);
}
