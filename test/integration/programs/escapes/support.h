// What the ways of this program share. Each prints lines "name: result", a result being "0", a
// number or the name of an errno value.
#ifndef OAKUM_TEST_ESCAPES_SUPPORT_H_
#define OAKUM_TEST_ESCAPES_SUPPORT_H_

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>

namespace oakum::escapes {

inline constexpr uint16_t kPort = 80;

inline sockaddr_in At(const char* ip, uint16_t port = kPort) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  inet_pton(AF_INET, ip, &address.sin_addr);
  return address;
}
inline const sockaddr* Generic(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// An errno value, 0 for success.
inline int ErrorOf(long result) { return result >= 0 ? 0 : errno; }
inline std::string Name(int error) { return error == 0 ? "0" : strerrorname_np(error); }
inline void Print(const std::string& name, const std::string& result) {
  printf("%s: %s\n", name.c_str(), result.c_str());
  fflush(stdout);
}
inline void Print(const std::string& name, int error) { Print(name, Name(error)); }

inline int Socket(int domain, int type, int protocol) {
  const int fd = socket(domain, type, protocol);
  if (fd < 0) {
    _exit(253);
  }
  return fd;
}

inline int Connect(const char* ip) {
  const int fd = Socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = At(ip);
  const int error = ErrorOf(connect(fd, Generic(address), sizeof address));
  close(fd);
  return error;
}
inline int SendOn(int fd, const char* ip) {
  const sockaddr_in address = At(ip);
  return ErrorOf(sendto(fd, "x", 1, 0, Generic(address), sizeof address));
}

// Runs `body` in a process of its own; what it returns, below 256, or 255 when it died.
inline int InChild(const std::function<int()>& body) {
  fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    _exit(body());
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 255;
}

// The ways; `words` are the arguments that follow the name.
int Filters(char** words);
int Tracer(char** words);
int SuspendSeccomp(char** words);
int Namespaces(char** words);
int Tasks(char** words);
int Setuid(char** words);
int Flood(char** words);
int Victim(char** words);
int Attack(char** words);
int Enter(char** words);
int Agent(char** words);

}  // namespace oakum::escapes

#endif  // OAKUM_TEST_ESCAPES_SUPPORT_H_
