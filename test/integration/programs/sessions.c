// Sessions by the thousand, as a runtime begins them: each is a process that connects to the agent,
// loads a filter that asks about connect(2), sends the listener with its state, makes a call that
// the policy denies and one that it allows, and ends.
// sessions SOCKET COUNT PARALLEL: prints "N ok"; exit status 1 and a line for the first that was not
// as it should be. With a PARALLEL of 0 none of them ends: for each line of input they all make their
// calls again, and at its end "N ok" is printed again.
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/futex.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

enum { kNoAgent = 10, kNoFilter, kNotSent, kNotDenied, kNotAllowed };

static int ConnectTo(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return connect(fd, (struct sockaddr*)&address, sizeof(address)) == 0 ? fd : -1;
}

static int LoadFilter(void) {
  struct sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_connect, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
                      &program);
}

static int SendState(int to, long number, int listener) {
  // Every tenth is of a container that has others, as an exec is.
  char text[1024];
  const int length = snprintf(
      text, sizeof(text),
      "{\"ociVersion\":\"1.0.2\",\"fds\":[\"seccompFd\"],\"pid\":%d,\"state\":{\"ociVersion\":"
      "\"1.0.2\",\"id\":\"s%ld\",\"status\":\"running\",\"pid\":%d,\"bundle\":\"/b\","
      "\"annotations\":{\"number\":\"%ld\"}}}",
      getpid(), number % 10 == 0 ? 0 : number, number % 10 == 0 ? 0 : getpid(), number);
  struct iovec data = {text, (size_t)length};
  union {
    char room[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
  } control;
  memset(&control, 0, sizeof(control));
  struct msghdr message = {.msg_iov = &data,
                           .msg_iovlen = 1,
                           .msg_control = control.room,
                           .msg_controllen = sizeof(control.room)};
  struct cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(header), &listener, sizeof(int));
  return sendmsg(to, &message, MSG_NOSIGNAL) == length ? 0 : -1;
}

static int ConnectError(const char* address, int port) {
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  inet_pton(AF_INET, address, &to.sin_addr);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int error = connect(fd, (struct sockaddr*)&to, sizeof(to)) == 0 ? 0 : errno;
  close(fd);
  return error;
}

static int Calls(void) {
  if (ConnectError("192.0.2.1", 80) != EACCES) {
    return kNotDenied;
  }
  return ConnectError("127.0.0.1", 1) == ECONNREFUSED ? 0 : kNotAllowed;
}

static int Session(const char* path, long number) {
  const int agent = ConnectTo(path);
  if (agent < 0) {
    return kNoAgent;
  }
  const int listener = LoadFilter();
  if (listener < 0) {
    return kNoFilter;
  }
  if (SendState(agent, number, listener) != 0) {
    return kNotSent;
  }
  close(listener);
  close(agent);
  return Calls();
}

// What those that stay share.
struct Rounds {
  atomic_int round;  // a futex(2)
  atomic_int done;
  atomic_int failed;
};

static void Stay(const char* path, long number, struct Rounds* rounds) {
  int status = Session(path, number);
  prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
  for (int round = 0;; ++round) {
    if (status != 0) {
      rounds->failed = status;
    }
    ++rounds->done;
    while (rounds->round == round) {
      syscall(SYS_futex, &rounds->round, FUTEX_WAIT, round, NULL, NULL, 0);
    }
    status = Calls();
  }
}

static int StayAll(const char* path, long count) {
  struct Rounds* rounds = mmap(NULL, sizeof(*rounds), PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  for (long begun = 0; begun < count; ++begun) {
    while (begun - rounds->done > 8) {
      usleep(100);  // the agent's queue of connections is no longer
    }
    const pid_t child = fork();
    if (child == 0) {
      Stay(path, begun + 1, rounds);
    }
    if (child < 0) {
      perror("fork");
      return 1;
    }
  }
  do {
    while (rounds->done < count) {
      usleep(100);
    }
    if (rounds->failed != 0) {
      printf("a session: status %x\n", rounds->failed);
      return 1;
    }
    printf("%ld ok\n", count);
    fflush(stdout);
    const int line = getchar();
    rounds->done = 0;
    ++rounds->round;
    syscall(SYS_futex, &rounds->round, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    if (line == EOF) {
      return 0;
    }
  } while (1);
}

int main(int argc, char** argv) {
  if (argc != 4) {
    return 2;
  }
  const long count = atol(argv[2]);
  const long parallel = atol(argv[3]);
  if (parallel == 0) {
    return StayAll(argv[1], count);
  }
  long begun = 0;
  for (long ended = 0; ended < count; ++ended) {
    for (; begun < count && begun - ended < parallel; ++begun) {
      const pid_t child = fork();
      if (child == 0) {
        _exit(Session(argv[1], begun + 1));
      }
      if (child < 0) {
        perror("fork");
        return 1;
      }
    }
    int status = 0;
    if (wait(&status) < 0 || status != 0) {
      printf("session of the %ld first: status %x\n", begun, status);
      return 1;
    }
  }
  printf("%ld ok\n", count);
  return 0;
}
