// Calls that go on for as long as the test likes, and somebody who counts what has come of them.
//
// steady run ADDRESS BAD_ADDRESS    threads that connect and send, each in a way of its own, until
//                                   SIGTERM; then a line for each: "WAY DONE FAILED ERRNO"
// steady serve READY                where that arrives, until SIGTERM; then "WAY CAME DISTINCT LAST",
//                                   and "accepted N"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum way {
  BLOCKING,     // connect(2) that waits
  NONBLOCKING,  // connect(2) that does not
  SENDTO,
  SENDMSG,
  SENDMMSG,
  STREAM,  // sendmsg(2) on a connection that stays
  DENIED,  // connect(2) to an address that is not allowed
  WAYS
};
static const char *const names[WAYS] = {"blocking", "nonblocking", "sendto", "sendmsg",
                                        "sendmmsg", "stream",      "denied"};
enum { CONNECT_PORT = 7001, DATAGRAM_PORT = 7002, STREAM_PORT = 7003, BATCH = 3 };
// One message: whose it is, and which one.
struct message {
  uint32_t way;
  uint32_t number;
};
enum { MOST = 1 << 22 };

static atomic_int stopping;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static struct sockaddr_in to(const char *address, int port) {
  struct sockaddr_in out = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, address, &out.sin_addr) != 1) {
    fail("inet_pton");
  }
  return out;
}

// --- the program in the container

struct job {
  enum way way;
  const char *address;
  uint32_t done;
  uint32_t failed;
  int error;  // the last one
};

static int start_connection(const struct job *job, int flags, int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | flags, 0);
  if (fd < 0) {
    return -1;
  }
  const struct sockaddr_in address = to(job->address, port);
  if (connect(fd, (const struct sockaddr *)&address, sizeof address) == 0) {
    return fd;
  }
  if (errno == EINPROGRESS && flags != 0) {
    struct pollfd ready = {fd, POLLOUT, 0};
    int error = 0;
    socklen_t length = sizeof error;
    poll(&ready, 1, -1);
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error == 0) {
      return fd;
    }
    errno = error;
  }
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

// Says its number, and waits until the other side has hung up, so that no port is used up here.
static int connect_once(struct job *job, int flags) {
  const int fd = start_connection(job, flags, CONNECT_PORT);
  if (fd < 0) {
    return -1;
  }
  const struct message message = {job->way, job->done};
  struct pollfd ready = {fd, POLLIN, 0};
  char end;
  int result = write(fd, &message, sizeof message) == sizeof message ? 0 : -1;
  poll(&ready, 1, -1);
  if (result == 0 && read(fd, &end, 1) != 0) {
    result = -1;
  }
  const int error = errno;
  close(fd);
  errno = error;
  return result;
}

static int send_once(struct job *job, int fd, const struct sockaddr_in *address) {
  struct message messages[BATCH];
  struct iovec parts[BATCH];
  struct mmsghdr headers[BATCH];
  memset(headers, 0, sizeof headers);
  for (uint32_t i = 0; i < BATCH; ++i) {
    messages[i] = (struct message){job->way, job->done + i};
    parts[i] = (struct iovec){&messages[i], sizeof messages[i]};
    headers[i].msg_hdr.msg_iov = &parts[i];
    headers[i].msg_hdr.msg_iovlen = 1;
    headers[i].msg_hdr.msg_name = (void *)(uintptr_t)address;
    headers[i].msg_hdr.msg_namelen = address != NULL ? sizeof *address : 0;
  }
  switch (job->way) {
    case SENDTO:
      return sendto(fd, &messages[0], sizeof messages[0], 0, (const struct sockaddr *)address,
                    sizeof *address) == sizeof messages[0]
                 ? 1
                 : -1;
    case SENDMMSG:
      return sendmmsg(fd, headers, BATCH, 0);
    default:
      return sendmsg(fd, &headers[0].msg_hdr, MSG_NOSIGNAL) == sizeof messages[0] ? 1 : -1;
  }
}

static void *work(void *argument) {
  struct job *job = argument;
  const struct sockaddr_in datagrams = to(job->address, DATAGRAM_PORT);
  int fd = -1;
  while (!stopping && job->done < MOST - BATCH) {
    int result = -1;
    errno = 0;
    switch (job->way) {
      case BLOCKING:
        result = connect_once(job, 0) == 0 ? 1 : -1;
        break;
      case NONBLOCKING:
        result = connect_once(job, SOCK_NONBLOCK) == 0 ? 1 : -1;
        break;
      case DENIED:
        result = start_connection(job, 0, CONNECT_PORT) < 0 && errno == EACCES ? 1 : -1;
        break;
      case STREAM:
        if (fd < 0) {
          fd = start_connection(job, 0, STREAM_PORT);
        }
        result = fd < 0 ? -1 : send_once(job, fd, NULL);
        if (result < 0 && fd >= 0) {
          const int error = errno;
          close(fd);
          fd = -1;
          errno = error;
        }
        break;
      default:
        if (fd < 0) {
          fd = socket(AF_INET, SOCK_DGRAM, 0);
        }
        result = send_once(job, fd, &datagrams);
    }
    if (result > 0) {
      job->done += (uint32_t)result;
    } else {
      ++job->failed;
      job->error = errno;
    }
    const struct timespec pause = {0, 200000};
    nanosleep(&pause, NULL);
  }
  return NULL;
}

static int run(const char *good, const char *bad) {
  static struct job jobs[WAYS];
  pthread_t threads[WAYS];
  sigset_t set;
  int number = 0;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  for (int way = 0; way < WAYS; ++way) {
    jobs[way] = (struct job){.way = (enum way)way, .address = way == DENIED ? bad : good};
    if (pthread_create(&threads[way], NULL, work, &jobs[way]) != 0) {
      fail("pthread_create");
    }
  }
  printf("running\n");
  fflush(stdout);
  sigwait(&set, &number);
  stopping = 1;
  for (int way = 0; way < WAYS; ++way) {
    pthread_join(threads[way], NULL);
    printf("%s %u %u %d\n", names[way], jobs[way].done, jobs[way].failed, jobs[way].error);
  }
  return 0;
}

// --- the other side

static atomic_uint came[WAYS];
static atomic_uint accepted;
static atomic_uchar *seen[WAYS];
static atomic_uint last[WAYS];
static atomic_uint holes;  // in streams

static void note(const struct message *message) {
  if (message->way >= WAYS || message->number >= MOST) {
    fail("a message that nobody sends");
  }
  ++came[message->way];
  ++seen[message->way][message->number];
  if (message->number > last[message->way]) {
    last[message->way] = message->number;
  }
}

static int bound(int type, int port) {
  const int fd = socket(AF_INET, type, 0);
  const int on = 1;
  const int room = 64 << 20;
  const struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
  if (fd < 0 || bind(fd, (const struct sockaddr *)&any, sizeof any) != 0 ||
      (type == SOCK_STREAM && listen(fd, 4096) != 0)) {
    fail("bind");
  }
  return fd;
}

static void *take_connections(void *argument) {
  const int listener = *(int *)argument;
  while (!stopping) {
    const int fd = accept(listener, NULL, NULL);
    struct message message;
    if (fd < 0) {
      continue;
    }
    ++accepted;
    if (recv(fd, &message, sizeof message, MSG_WAITALL) == sizeof message) {
      note(&message);
    }
    close(fd);
  }
  return NULL;
}

static void *take_datagrams(void *argument) {
  const int fd = *(int *)argument;
  while (!stopping) {
    struct message message;
    if (recv(fd, &message, sizeof message, 0) == sizeof message) {
      note(&message);
    }
  }
  return NULL;
}

static void *take_stream(void *argument) {
  const int fd = (int)(intptr_t)argument;
  struct message message;
  uint32_t next = UINT32_MAX;
  while (recv(fd, &message, sizeof message, MSG_WAITALL) == sizeof message) {
    if (next != UINT32_MAX && message.number != next) {
      ++holes;
    }
    next = message.number + 1;
    note(&message);
  }
  close(fd);
  return NULL;
}

static void *take_streams(void *argument) {
  const int listener = *(int *)argument;
  while (!stopping) {
    const int fd = accept(listener, NULL, NULL);
    pthread_t thread;
    if (fd >= 0 && pthread_create(&thread, NULL, take_stream, (void *)(intptr_t)fd) == 0) {
      pthread_detach(thread);
    }
  }
  return NULL;
}

static int serve(const char *ready) {
  static int sockets[3];
  void *(*const takers[3])(void *) = {take_connections, take_datagrams, take_streams};
  sigset_t set;
  int number = 0;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  for (int way = 0; way < WAYS; ++way) {
    seen[way] = calloc(MOST, 1);
  }
  sockets[0] = bound(SOCK_STREAM, CONNECT_PORT);
  sockets[1] = bound(SOCK_DGRAM, DATAGRAM_PORT);
  sockets[2] = bound(SOCK_STREAM, STREAM_PORT);
  for (int i = 0; i < 3; ++i) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, takers[i], &sockets[i]) != 0) {
      fail("pthread_create");
    }
  }
  close(open(ready, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  sigwait(&set, &number);
  for (int way = 0; way < WAYS; ++way) {
    unsigned distinct = 0;
    for (uint32_t i = 0; i < MOST; ++i) {
      distinct += seen[way][i] != 0;
    }
    printf("%s %u %u %u\n", names[way], came[way], distinct, last[way]);
  }
  printf("accepted %u\nholes %u\n", accepted, holes);
  fflush(stdout);
  _exit(0);
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "run") == 0) {
    return run(argv[2], argv[3]);
  }
  if (argc == 3 && strcmp(argv[1], "serve") == 0) {
    return serve(argv[2]);
  }
  fprintf(stderr, "usage: steady run ADDRESS BAD_ADDRESS | serve READY\n");
  return 2;
}
