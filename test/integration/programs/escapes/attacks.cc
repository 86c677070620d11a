// Processes of one user against each other and against the agent.
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/user.h>

#include <csignal>

#include "support.h"

namespace oakum::escapes {

namespace {

int PidfdOf(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }
int FetchDescriptor(pid_t pid, int fd) {
  return static_cast<int>(syscall(SYS_pidfd_getfd, PidfdOf(pid), fd, 0));
}

#if defined(__x86_64__)
// Makes process `pid`, which sleeps in a system call, send the datagram that its registers name.
int Force(pid_t pid, int fd, uint64_t address) {
  if (ptrace(PTRACE_ATTACH, pid, nullptr, nullptr) != 0) {
    return errno;
  }
  waitpid(pid, nullptr, 0);
  user_regs_struct before = {};
  ptrace(PTRACE_GETREGS, pid, nullptr, &before);
  user_regs_struct registers = before;
  registers.orig_rax = static_cast<unsigned long long>(-1);  // nothing is restarted
  registers.rax = SYS_sendto;
  registers.rdi = static_cast<unsigned long long>(fd);
  registers.rsi = address;
  registers.rdx = 1;
  registers.r10 = 0;
  registers.r8 = address;
  registers.r9 = sizeof(sockaddr_in);
  registers.rip = before.rip - 2;  // the syscall instruction that it is in
  ptrace(PTRACE_SETREGS, pid, nullptr, &registers);
  ptrace(PTRACE_SINGLESTEP, pid, nullptr, nullptr);
  waitpid(pid, nullptr, 0);
  ptrace(PTRACE_GETREGS, pid, nullptr, &registers);
  before.orig_rax = static_cast<unsigned long long>(-1);
  ptrace(PTRACE_SETREGS, pid, nullptr, &before);
  ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
  const auto result = static_cast<long>(registers.rax);
  return result < 0 ? static_cast<int>(-result) : 0;
}
#endif

}  // namespace

// victim GOOD BAD: a process that others try to use. Has a connected socket, an address that it
// sends to all the time, and one that it never sends to; prints "victim: PID CONNECTED UDP &TARGET
// &BAD".
int Victim(char** words) {
  static sockaddr_in target = At(words[0]);
  static sockaddr_in never = At(words[1]);
  const int connected = Socket(AF_INET, SOCK_STREAM, 0);
  const int udp = Socket(AF_INET, SOCK_DGRAM, 0);
  Print("connect", ErrorOf(connect(connected, Generic(never), sizeof never)));
  printf("victim: %d %d %d %lu %lu\n", getpid(), connected, udp,
         reinterpret_cast<unsigned long>(&target), reinterpret_cast<unsigned long>(&never));
  fflush(stdout);
  for (;;) {
    usleep(20'000);
    sendto(udp, "x", 1, 0, Generic(target), sizeof target);
  }
}

// attack PID CONNECTED UDP &TARGET &BAD: what the victim has said.
int Attack(char** words) {
  const pid_t pid = atoi(words[0]);
  const uint64_t target = strtoull(words[3], nullptr, 10);
  const uint64_t never = strtoull(words[4], nullptr, 10);
  const int stolen = FetchDescriptor(pid, atoi(words[1]));
  Print("pidfd_getfd", ErrorOf(stolen));
  if (stolen >= 0) {
    Print("send", ErrorOf(send(stolen, "x", 1, 0)));
  }
#if defined(__x86_64__)
  Print("ptrace", Force(pid, atoi(words[2]), never));
#endif
  sockaddr_in address = {};
  const iovec local = {&address, sizeof address};
  const iovec from = {reinterpret_cast<void*>(never), sizeof address};
  const iovec to = {reinterpret_cast<void*>(target), sizeof address};
  int error = ErrorOf(process_vm_readv(pid, &local, 1, &from, 1, 0));
  if (error == 0) {
    error = ErrorOf(process_vm_writev(pid, &local, 1, &to, 1, 0));
  }
  Print("process_vm_writev", error);
  return 0;
}

// agent PID PATH: against the agent, from a container that sees the host's processes; PATH is a
// unix path below the host's root.
int Agent(char** words) {
  const pid_t pid = atoi(words[0]);
  const std::string proc = std::string("/proc/") + words[0];
  Print("visible", access(proc.c_str(), F_OK) == 0 ? "yes" : "no");
  Print("ptrace", ErrorOf(ptrace(PTRACE_SEIZE, pid, nullptr, nullptr)));
  ptrace(PTRACE_DETACH, pid, nullptr, nullptr);
  int taken = 0;
  for (int fd = 0; fd < 64; ++fd) {
    taken += FetchDescriptor(pid, fd) >= 0 ? 1 : 0;
  }
  Print("descriptors taken", std::to_string(taken));
  Print("mem", ErrorOf(open((proc + "/mem").c_str(), O_RDONLY)));
  Print("root", ErrorOf(open((proc + "/root/").c_str(), O_RDONLY)));
  char target[256];
  Print("fd", ErrorOf(readlink((proc + "/fd/0").c_str(), target, sizeof target)));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/root%s", words[1]);
  Print("bind through /proc/self/root",
        ErrorOf(bind(Socket(AF_UNIX, SOCK_STREAM, 0), reinterpret_cast<sockaddr*>(&address),
                     sizeof address)));
  return 0;
}

}  // namespace oakum::escapes
