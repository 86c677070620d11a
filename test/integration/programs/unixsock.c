// Unix sockets from inside a container: who the other side sees, and what hostile programs try.
// Each result is a line of JSON with the name of the errno.
//   client PATH THREADS      connects, sends its pid, waits for an answer, beside idle threads
//   server PATH THREADS      listens, accepts one connection, waits for its end
//   swap PATH IP PORT ROUNDS connects to PATH while a thread puts a TCP socket under the number
//   fork-swap ...            the same with a process that shares the descriptor table
//   swap-given ...           the same with descriptor 3 for the TCP socket
//   receive PATH IP PORT     takes a descriptor (SCM_RIGHTS), writes to it, connects, sends
//   inherited FD [PATH]      writes to a descriptor it was started with, and waits for PATH
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static void Report(const char* what, long result) {
  const char* name = result < 0 ? strerrorname_np(errno) : "";
  printf("{\"op\": \"%s\", \"ret\": %ld, \"errno\": \"%s\"}\n", what, result, name);
  fflush(stdout);
}

static struct sockaddr_un UnixAddress(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof address.sun_path - 1);
  return address;
}

static struct sockaddr_in InetAddress(const char* ip, const char* port) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
  inet_pton(AF_INET, ip, &address.sin_addr);
  return address;
}

static void* Idle(void* unused) {
  pause();
  return unused;
}

static void StartThreads(int count) {
  for (int i = 0; i < count; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, Idle, NULL) != 0) {
      exit(100);
    }
  }
}

static int Client(const char* path) {
  const struct sockaddr_un address = UnixAddress(path);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  const int result = connect(fd, (const struct sockaddr*)&address, sizeof address);
  Report("connect", result);
  if (result != 0) {
    return 1;
  }
  struct ucred peer;
  socklen_t length = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0) {
    Report("peer", peer.pid);
  }
  char text[32];
  const int size = snprintf(text, sizeof text, "%d", getpid());
  struct iovec piece = {text, (size_t)size};
  struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1};
  Report("sendmsg", sendmsg(fd, &message, 0));
  return read(fd, text, 1) == 1 ? 0 : 2;
}

static int Server(const char* path) {
  const struct sockaddr_un address = UnixAddress(path);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (bind(fd, (const struct sockaddr*)&address, sizeof address) != 0) {
    Report("bind", -1);
    return 1;
  }
  Report("listen", listen(fd, 8));
  const int accepted = accept(fd, NULL, NULL);
  char byte;
  return accepted >= 0 && read(accepted, &byte, 1) == 0 ? 0 : 2;
}

static union {
  struct sockaddr_in in;
  struct sockaddr_un un;
  struct sockaddr generic;
} g_address;
static atomic_int* g_done;
static int g_number;
static int g_unix;
static int g_given = -1;
static struct sockaddr_in g_tcp_address;
static struct sockaddr_un g_unix_address;

// Sockets are made before the race, so that the switch itself takes no time.
static void* Swap(void* unused) {
  while (!atomic_load(g_done)) {
    const int tcp = g_given >= 0 ? dup(g_given) : socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    for (int i = 0; i < 16; ++i) {
      dup2(tcp, g_number);
      memcpy(&g_address, &g_tcp_address, sizeof g_tcp_address);
      dup2(g_unix, g_number);
      memcpy(&g_address, &g_unix_address, sizeof g_tcp_address);
    }
    close(tcp);
  }
  return unused;
}

static int SwapInChild(void* unused) {
  Swap(unused);
  return 0;
}

static int SwapWhileConnecting(char** arguments, int by_process) {
  g_unix_address = UnixAddress(arguments[0]);
  g_tcp_address = InetAddress(arguments[1], arguments[2]);
  const int rounds = atoi(arguments[3]);
  g_done = mmap(NULL, sizeof *g_done, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  g_unix = socket(AF_UNIX, SOCK_STREAM, 0);
  g_number = dup(g_unix);
  g_address.un = g_unix_address;
  pthread_t thread;
  pid_t child = 0;
  if (by_process) {
    static char stack[65536] __attribute__((aligned(16)));
    child = clone(SwapInChild, stack + sizeof stack, CLONE_VM | CLONE_FILES | SIGCHLD, NULL);
    if (child < 0) {
      return 101;
    }
  } else if (pthread_create(&thread, NULL, Swap, NULL) != 0) {
    return 101;
  }
  long reached = 0;
  long stopped = 0;  // by the kernel: the agent says EACCES
  for (int i = 0; i < rounds && reached == 0 && stopped < 3; ++i) {
    if (connect(g_number, &g_address.generic, sizeof g_address.un) < 0) {
      reached += errno == EINPROGRESS ? 1 : 0;
      stopped += errno == EPERM ? 1 : 0;
    }
  }
  atomic_store(g_done, 1);
  if (by_process) {
    waitpid(child, NULL, 0);
  } else {
    pthread_join(thread, NULL);
  }
  Report("reached", reached);
  Report("stopped", stopped);
  return 0;
}

static int Receive(char** arguments) {
  const struct sockaddr_un address = UnixAddress(arguments[0]);
  const struct sockaddr_in inet = InetAddress(arguments[1], arguments[2]);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (const struct sockaddr*)&address, sizeof address) != 0) {
    Report("connect", -1);
    return 1;
  }
  char byte;
  struct iovec piece = {&byte, 1};
  union {
    struct cmsghdr header;
    char bytes[CMSG_SPACE(sizeof(int))];
  } control;
  struct msghdr message = {.msg_iov = &piece,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof control};
  if (recvmsg(fd, &message, 0) != 1 || message.msg_controllen < sizeof control.header) {
    return 2;
  }
  int received;
  memcpy(&received, CMSG_DATA(&control.header), sizeof received);
  Report("write", send(received, "hello", 5, MSG_NOSIGNAL));
  Report("sendto",
         sendto(received, "hello", 5, MSG_NOSIGNAL, (const struct sockaddr*)&inet, sizeof inet));
  Report("connect", connect(received, (const struct sockaddr*)&inet, sizeof inet));
  return 0;
}

int main(int argc, char** argv) {
  const char* what = argc > 2 ? argv[1] : "";
  if (argc > 3 && strcmp(what, "client") == 0) {
    StartThreads(atoi(argv[3]));
    return Client(argv[2]);
  }
  if (argc > 3 && strcmp(what, "server") == 0) {
    StartThreads(atoi(argv[3]));
    return Server(argv[2]);
  }
  if (argc > 5 && (strcmp(what, "swap") == 0 || strcmp(what, "fork-swap") == 0)) {
    return SwapWhileConnecting(argv + 2, what[0] == 'f');
  }
  if (argc > 5 && strcmp(what, "swap-given") == 0) {
    g_given = 3;
    fcntl(g_given, F_SETFL, O_NONBLOCK);  // whatever the runtime made of it
    return SwapWhileConnecting(argv + 2, 0);
  }
  if (argc > 4 && strcmp(what, "receive") == 0) {
    return Receive(argv + 2);
  }
  if (argc > 2 && strcmp(what, "inherited") == 0) {
    Report("write", write(atoi(argv[2]), "hello", 5));
    for (int i = 0; argc > 3 && access(argv[3], F_OK) != 0 && i < 3000; ++i) {
      usleep(10000);
    }
    return 0;
  }
  fprintf(stderr, "unixsock: unknown way \"%s\"\n", what);
  return 99;
}
