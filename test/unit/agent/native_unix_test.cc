// What lets a unix connect stay native: the guard on a cgroup, and descriptor tables of one's own.
#include "agent/caller/native_unix.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/file.h"

namespace oakum::agent {
namespace {

TEST(NativeUnixTest, TheCgroupOfAProcess) {
  EXPECT_EQ(UnifiedCgroup("9:name=systemd:/a\n1:cpu:/b\n0::/c/d\n"), "/c/d");
  EXPECT_EQ(UnifiedCgroup("0::/\n"), "/");
  EXPECT_EQ(UnifiedCgroup("9:name=systemd:/a\n"), "");
  EXPECT_EQ(UnifiedCgroup(""), "");
}

TEST(NativeUnixTest, AHierarchyThatCanBeWrittenToIsAWayOut) {
  const auto shows = [](std::string_view line) {
    return ShowsMoreCgroups(ParseMounts(line), "/docker/1");
  };
  EXPECT_TRUE(shows("1 2 0:29 / /sys/fs/cgroup rw - cgroup2 none rw\n"));
  EXPECT_TRUE(shows("1 2 0:29 /docker /sys/fs/cgroup rw - cgroup2 none rw\n"));
  EXPECT_TRUE(shows("1 2 0:29 /docker/12 /sys/fs/cgroup rw - cgroup2 none rw\n"));
  EXPECT_FALSE(shows("1 2 0:29 /docker/1 /sys/fs/cgroup rw - cgroup2 none rw\n"));
  EXPECT_FALSE(shows("1 2 0:29 /docker/1/a /sys/fs/cgroup rw - cgroup2 none rw\n"));
  EXPECT_FALSE(shows("1 2 0:29 / /sys/fs/cgroup ro,nosuid - cgroup2 none rw\n"));
  EXPECT_FALSE(shows("1 2 0:29 / /sys/fs/cgroup/cpu rw - cgroup none rw\n"));
}

// A cgroup (v2) of the test's own; empty path where there is none to be had.
class Cgroup {
 public:
  Cgroup() {
    const auto mountinfo = ReadFile("/proc/self/mountinfo", size_t{1024} * 1024);
    for (const Mount& mount : ParseMounts(mountinfo ? *mountinfo : "")) {
      const std::string path = fmt::format("{}/oakum-test-{}", mount.point, getpid());
      if (mount.type == "cgroup2" && mount.root == "/" && mkdir(path.c_str(), 0755) == 0) {
        path_ = path;
        return;
      }
    }
  }
  ~Cgroup() {
    if (!path_.empty()) {
      rmdir(path_.c_str());
    }
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

int ConnectError(int fd, const sockaddr_in6& address, socklen_t length) {
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), length) == 0 ? 0 : errno;
}

// Datagram sockets: connecting one reaches nobody, and can be repeated.
struct Endpoint {
  explicit Endpoint(int family) {
    fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    address.sin6_family = static_cast<sa_family_t>(family);
    if (family == AF_INET) {
      auto* in = reinterpret_cast<sockaddr_in*>(&address);
      in->sin_port = htons(9);
      in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      length = sizeof(sockaddr_in);
    } else {
      address.sin6_port = htons(9);
      address.sin6_addr = in6addr_loopback;
    }
  }
  ~Endpoint() { close(fd); }
  int Connect() const { return ConnectError(fd, address, length); }
  int fd = -1;
  sockaddr_in6 address = {};
  socklen_t length = sizeof address;
};

TEST(ConnectGuardTest, HoldsWhoIsInTheCgroupAndNobodyElse) {
  const Cgroup cgroup;
  if (cgroup.path().empty()) {
    GTEST_SKIP() << "needs root and a cgroup (v2) hierarchy";
  }
  const UniqueFd directory(open(cgroup.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const UniqueFd root(openat(directory.get(), "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const auto id = CgroupId(directory.get());
  ASSERT_TRUE(id.has_value() && root.valid());
  const Endpoint outside(AF_INET);  // the child has it, too
  std::array<int, 2> steps{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, steps.data()), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(steps[0]);
    const UniqueFd procs(open((cgroup.path() + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    if (!WriteAll(procs.get(), "0")) {
      _exit(1);
    }
    const Endpoint inet4(AF_INET);
    const Endpoint inet6(AF_INET6);
    for (char byte = 0; read(steps[1], &byte, 1) == 1;) {
      const std::array<int, 4> answer = {inet4.Connect(), inet6.Connect(), outside.Connect(),
                                         inet4.fd};
      if (write(steps[1], answer.data(), sizeof answer) != sizeof answer) {
        break;
      }
    }
    _exit(0);
  }
  close(steps[1]);
  const auto ask = [&] {
    std::array<int, 4> answer = {-1, -1, -1, -1};
    EXPECT_EQ(write(steps[0], "x", 1), 1);
    EXPECT_EQ(read(steps[0], answer.data(), sizeof answer), sizeof answer);
    return answer;
  };
  EXPECT_EQ(ask()[0], 0);
  const bool has_inet6 = ask()[1] == 0;
  {
    GuardedCgroups cgroups;
    ASSERT_TRUE(cgroups.Add(root.get(), *id).has_value());
    ASSERT_TRUE(cgroups.Add(root.get(), *id).has_value());
    cgroups.Remove(*id);  // one reason is left
    const auto held = ask();
    EXPECT_EQ(held[0], EPERM);
    EXPECT_EQ(held[1], has_inet6 ? EPERM : held[1]);
    EXPECT_EQ(held[2], EPERM);
    // The same sockets, connected by somebody outside.
    const UniqueFd pidfd(static_cast<int>(syscall(SYS_pidfd_open, child, 0)));
    const UniqueFd theirs(static_cast<int>(syscall(SYS_pidfd_getfd, pidfd.get(), held[3], 0)));
    EXPECT_EQ(ConnectError(theirs.get(), outside.address, outside.length), 0);
    EXPECT_EQ(outside.Connect(), 0);
    cgroups.Remove(*id);
    EXPECT_EQ(ask()[0], 0);
    ASSERT_TRUE(cgroups.Add(root.get(), *id).has_value());
    EXPECT_EQ(ask()[0], EPERM);
  }
  EXPECT_EQ(ask()[0], 0) << "the guard has not gone with its object";
  close(steps[0]);
  EXPECT_EQ(waitpid(child, nullptr, 0), child);
}

// A container as a ConnectGuard wants it: in a cgroup, a pid and a mount namespace of its own, from
// which it sees no hierarchy. Each byte on its socket is a question: what its connect(2) gets.
class Contained {
 public:
  explicit Contained(const Cgroup& cgroup)
      : procs_(open((cgroup.path() + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC)) {
    const auto mounts = ReadFile("/proc/self/mountinfo", size_t{1024} * 1024);
    for (Mount& mount : ParseMounts(mounts ? *mounts : "")) {
      if (mount.type == "cgroup2") {
        hierarchies_.push_back(std::move(mount.point));
      }
    }
    std::array<int, 2> ends{};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()), 0);
    const long flags = CLONE_NEWPID | CLONE_NEWNS | SIGCHLD;
    pid_ = static_cast<pid_t>(syscall(SYS_clone, flags, nullptr, nullptr, nullptr, 0));
    if (pid_ == 0) {
      close(ends[0]);
      Answer(ends[1]);
      _exit(0);
    }
    close(ends[1]);
    questions_.Reset(ends[0]);
  }
  ~Contained() {
    questions_.Reset();
    waitpid(pid_, nullptr, 0);
  }
  Contained(const Contained&) = delete;
  Contained& operator=(const Contained&) = delete;
  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] int ConnectError() const {
    int error = -1;
    EXPECT_EQ(write(questions_.get(), "x", 1), 1);
    EXPECT_EQ(read(questions_.get(), &error, sizeof error), static_cast<ssize_t>(sizeof error));
    return error;
  }

 private:
  // No fork(2) for the C library and sanitizers, so that nothing is allocated here.
  void Answer(int fd) const {
    if (write(procs_.get(), "0", 1) != 1 ||
        mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      return;
    }
    for (const std::string& point : hierarchies_) {
      umount2(point.c_str(), MNT_DETACH);
    }
    prctl(PR_CAPBSET_DROP, CAP_SYS_ADMIN, 0, 0, 0);
    const Endpoint endpoint(AF_INET);
    for (char byte = 0; read(fd, &byte, 1) == 1;) {
      const int error = endpoint.Connect();
      if (write(fd, &error, sizeof error) != sizeof error) {
        return;
      }
    }
  }

  const UniqueFd procs_;
  std::vector<std::string> hierarchies_;
  pid_t pid_ = -1;
  UniqueFd questions_;
};

// A policy that audits takes the guard off, and a call that an earlier one still decides then puts
// none on again.
TEST(NativeUnixTest, AfterSuspendThereIsNoGuardUntilResume) {
  const Cgroup cgroup;
  if (cgroup.path().empty()) {
    GTEST_SKIP() << "needs root and a cgroup (v2) hierarchy";
  }
  const Contained container(cgroup);
  ASSERT_EQ(container.ConnectError(), 0);
  NativeUnix native(container.pid(), std::make_shared<GuardedCgroups>());
  const auto ask = [&] {
    std::thread([&] {  // whose capabilities go
      const auto status = ReadTaskStatus(container.pid());
      ASSERT_TRUE(status.has_value());
      // Without a guard it is as the descriptor table has it, of which a busy machine hides whose
      // it is.
      (void)native.AllowsConnect(container.pid(), *status);
    })
        .join();
    return container.ConnectError();
  };
  EXPECT_EQ(ask(), EPERM);
  native.Suspend();
  EXPECT_EQ(container.ConnectError(), 0);
  EXPECT_EQ(ask(), 0);
  native.Resume();
  EXPECT_EQ(container.ConnectError(), 0);
  EXPECT_EQ(ask(), EPERM);
}

// A child that runs `body`, which calls pause() in the end.
class Child {
 public:
  explicit Child(const std::function<void(int ready_fd)>& body) {
    std::array<int, 2> ready{};
    EXPECT_EQ(pipe2(ready.data(), O_CLOEXEC), 0);
    pid_ = fork();
    if (pid_ == 0) {
      body(ready[1]);
      for (;;) {
        pause();
      }
    }
    close(ready[1]);
    char byte = 0;
    EXPECT_EQ(read(ready[0], &byte, 1), 1);
    close(ready[0]);
  }
  ~Child() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  // Whether it owns its table, in one of `tries`: tasks that others make spoil a look.
  bool OwnsTable(int tries = 20) const {
    for (int i = 0; i < tries; ++i) {
      const auto status = ReadTaskStatus(pid_);
      if (status && OwnsDescriptorTable(pid_, *status)) {
        return true;
      }
      usleep(1'000);
    }
    return false;
  }

 private:
  pid_t pid_ = -1;
};

void SayReady(int fd) { (void)!write(fd, "x", 1); }

#if !defined(__SANITIZE_THREAD__)  // which gives each process a thread of its own
TEST(DescriptorTableTest, OneTaskOwnsItsTable) {
  const auto loadavg = ReadFile("/proc/loadavg", 256);  // "0.1 0.2 0.3 1/234 5678"
  ASSERT_TRUE(loadavg.has_value());
  if (strtoul(loadavg->c_str() + loadavg->find('/') + 1, nullptr, 10) > 450) {
    GTEST_SKIP() << "there are more tasks than are looked at";
  }
  const Child child([](int ready) { SayReady(ready); });
  EXPECT_TRUE(child.OwnsTable(5'000));
}
#endif

TEST(DescriptorTableTest, OneOfSeveralThreadsDoesNot) {
  const Child child([](int ready) {
    std::thread([] { pause(); }).detach();
    SayReady(ready);
  });
  EXPECT_FALSE(child.OwnsTable());
}

TEST(DescriptorTableTest, ProcessesThatShareOneDoNot) {
  const Child child([](int ready) {
    const auto parent = getpid();
    // clone(2) without memory of its own to share: a fork that keeps the table.
    if (syscall(SYS_clone, CLONE_FILES | SIGCHLD, nullptr, nullptr, nullptr, 0) == 0) {
      SayReady(ready);
      while (getppid() == parent) {
        usleep(10'000);
      }
      _exit(0);
    }
  });
  EXPECT_FALSE(child.OwnsTable());
}

TEST(DescriptorTableTest, AThreadOfAnotherProcessThatSharesItCounts) {
  const Child child([](int ready) {
    const auto parent = getpid();
    if (syscall(SYS_clone, CLONE_FILES | SIGCHLD, nullptr, nullptr, nullptr, 0) == 0) {
      // The main thread leaves the table, the other one keeps it.
      std::thread([=] {
        while (getppid() == parent) {
          usleep(10'000);
        }
        _exit(0);
      }).detach();
      const int kept = dup(ready);
      if (unshare(CLONE_FILES) != 0) {
        _exit(1);
      }
      SayReady(kept);
      for (;;) {
        pause();
      }
    }
  });
  EXPECT_FALSE(child.OwnsTable());
}

}  // namespace
}  // namespace oakum::agent
