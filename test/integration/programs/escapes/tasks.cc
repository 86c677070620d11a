// Tasks of every kind that clone(2) and execve(2) make, and floods of them.
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/un.h>

#include <csignal>
#include <thread>

#include "support.h"

namespace oakum::escapes {

namespace {

constexpr size_t kStack = size_t{256} * 1024;

int Cloned(int flags, const char* ip) {
  auto* stack = static_cast<char*>(
      mmap(nullptr, kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  const pid_t child =
      clone([](void* argument) { return Connect(static_cast<const char*>(argument)); },
            stack + kStack, flags | SIGCHLD, const_cast<char*>(ip));
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

int Spawned(const char* ip) {
  std::string program = "/proc/self/exe";
  std::string one = "one";
  std::string address = ip;
  char* arguments[] = {program.data(), one.data(), address.data(), nullptr};
  pid_t child = -1;
  int status = 0;
  return posix_spawn(&child, program.c_str(), nullptr, nullptr, arguments, nullptr) == 0 &&
                 waitpid(child, &status, 0) == child && WIFEXITED(status)
             ? WEXITSTATUS(status)
             : 255;
}

// The first thread has ended and is a zombie; another one calls.
int WithoutLeader(const char* ip) {
  return InChild([=] {
    std::thread([=] {
      usleep(50'000);
      const int first = Connect(ip);
      _exit(first == Connect(ip) ? first : 254);
    }).detach();
    syscall(SYS_exit, 0);
    return 255;
  });
}

// A thread calls all the time while another one executes a program, which calls as well.
int ExecFromAThread(const char* ip) {
  return InChild([=] {
    std::thread caller([=] {
      for (;;) {
        Connect(ip);
      }
    });
    std::thread executer([=] {
      usleep(20'000);
      execl("/proc/self/exe", "escapes", "one", ip, nullptr);
      _exit(254);
    });
    caller.join();
    executer.join();
    return 255;
  });
}

int Vforked(const char* ip) {
  const pid_t child = vfork();  // NOLINT: what this way is about
  if (child == 0) {
    _exit(Connect(ip));  // NOLINT: likewise
  }
  int status = 0;
  return waitpid(child, &status, 0) == child && WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

#if defined(__x86_64__)
// connect(2) of 32-bit programs: int 0x80, number 362 (arch/x86/entry/syscalls/syscall_32.tbl).
int ThirtyTwoBit(const char* ip) {
  void* low =
      mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  const sockaddr_in address = At(ip);
  memcpy(low, &address, sizeof address);
  const long fd = Socket(AF_INET, SOCK_STREAM, 0);
  long result = 362;
  asm volatile("int $0x80"
               : "+a"(result)
               : "b"(fd), "c"(low), "d"(sizeof address)
               : "memory", "r8", "r9", "r10", "r11");
  return -static_cast<int32_t>(result);
}
#endif

int ConnectUnix(const char* path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  return ErrorOf(connect(Socket(AF_UNIX, SOCK_STREAM, 0), reinterpret_cast<sockaddr*>(&address),
                         sizeof address));
}

}  // namespace

int Tasks(char** words) {
  for (const char* ip : {words[0], words[1]}) {
    const std::string who = ip == words[0] ? " bad" : " good";
    Print("vfork" + who, Vforked(ip));
    Print("CLONE_VM" + who, Cloned(CLONE_VM, ip));
    Print("CLONE_FILES" + who, Cloned(CLONE_FILES, ip));
    Print("CLONE_VM, CLONE_FILES, CLONE_FS" + who, Cloned(CLONE_VM | CLONE_FILES | CLONE_FS, ip));
    Print("posix_spawn" + who, Spawned(ip));
    Print("no leader" + who, WithoutLeader(ip));
    Print("exec from a thread" + who, ExecFromAThread(ip));
    Print("not dumpable" + who,
          InChild([=] { return prctl(PR_SET_DUMPABLE, 0) != 0 ? 254 : Connect(ip); }));
#if defined(__x86_64__)
    Print("32 bit" + who, InChild([=] { return ThirtyTwoBit(ip); }));
#endif
  }
  return 0;
}

// setuid IP PATH: as a program with the set-user-ID bit; PATH is a socket of root's alone.
int Setuid(char** words) {
  Print("euid", std::to_string(geteuid()));
  Print("connect", Connect(words[0]));
  Print("unix", ConnectUnix(words[1]));
  const int fd = Socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in address = At("0.0.0.0", 81);
  Print("bind", ErrorOf(bind(fd, Generic(address), sizeof address)));
  // From now on as whoever has started it.
  if (setresuid(getuid(), getuid(), getuid()) != 0) {
    return 1;
  }
  Print("unix afterwards", ConnectUnix(words[1]));
  return 0;
}

// flood COUNT PARALLEL IP: short-lived processes of one connect each.
int Flood(char** words) {
  const int count = atoi(words[0]);
  const int parallel = atoi(words[1]);
  int results[256] = {};
  const auto reap = [&] {
    int status = 0;
    if (wait(&status) > 0) {
      ++results[WIFEXITED(status) ? WEXITSTATUS(status) : 255];
    }
  };
  int running = 0;
  for (int i = 0; i < count; ++i) {
    if (running == parallel) {
      reap();
      --running;
    }
    const pid_t child = vfork();  // NOLINT: the quickest of all
    if (child == 0) {
      _exit(Connect(words[2]));  // NOLINT: likewise
    }
    if (child < 0) {
      ++results[254];  // the limit of processes
    } else {
      ++running;
    }
  }
  while (running-- > 0) {
    reap();
  }
  for (int error = 0; error < 256; ++error) {
    if (results[error] != 0) {
      Print(error == 254 ? "no process" : Name(error), std::to_string(results[error]));
    }
  }
  return 0;
}

}  // namespace oakum::escapes
