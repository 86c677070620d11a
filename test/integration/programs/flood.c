// One program that makes calls one at a time and says how long they took, and others that make as
// many as they can. What each prints at its end is one JSON line; SIGTERM ends it.
//
// flood quiet PAUSE_US             connect(2) to loopback by UDP and TCP, accept(2) that waits, each
//                                  followed by a pause: how long they took
// flood spin THREADS               no calls at all
// flood connects THREADS ADDRESS   connect(2) of datagram sockets
// flood scan THREADS ADDRESS       the same to one port after another
// flood hang THREADS ADDRESS       connect(2) that waits, in each thread
// flood dying THREADS ADDRESS      processes whose threads are killed in the middle of such calls
// flood churn THREADS              the same processes, whose threads sleep and make no call
// flood sendmmsg THREADS           1,024 messages a call
// flood listen SOCKETS             binds and listens with so many, closes all, and again
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PORT = 7001, ENTRIES = 1024, ERRORS = 256 };
enum { MOST_TIMES = 1 << 20, WARM_UP = 20 };  // the first calls find nothing in its place

static atomic_int stopping;
// In memory that children share: errors[0] counts what went well.
static atomic_ulong *errors;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void stop(int number) {
  (void)number;
  stopping = 1;
}

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void pause_ns(int64_t ns) {
  const struct timespec time = {ns / 1000000000, ns % 1000000000};
  nanosleep(&time, NULL);
}

static struct sockaddr_in to(const char *address, int port) {
  struct sockaddr_in out = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  if (inet_pton(AF_INET, address, &out.sin_addr) != 1) {
    fail("inet_pton");
  }
  return out;
}

static void count(int result) { ++errors[result >= 0 ? 0 : errno < ERRORS ? errno : ERRORS - 1]; }

// `join`: whether they see that it is to end.
static void in_threads(int threads, void *(*work)(void *), int join) {
  pthread_attr_t attributes;
  pthread_t *all = calloc((size_t)threads, sizeof *all);
  sigset_t term;
  // No call of theirs is interrupted: each is counted once, here and there.
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, NULL);
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 32768);
  for (int i = 0; i < threads; ++i) {
    if (pthread_create(&all[i], &attributes, work, NULL) != 0) {
      fail("pthread_create");
    }
  }
  pthread_sigmask(SIG_UNBLOCK, &term, NULL);
  printf("running\n");
  fflush(stdout);
  while (!stopping) {
    pause_ns(10000000);
  }
  for (int i = 0; join && i < threads; ++i) {
    pthread_join(all[i], NULL);
  }
  free(all);
}

// --- the quiet one

static int by_size(const void *a, const void *b) {
  const uint32_t one = *(const uint32_t *)a, other = *(const uint32_t *)b;
  return (one > other) - (one < other);
}

enum way { UDP, TCP, ACCEPT, WAYS };
static const char *const names[WAYS] = {"udp", "tcp", "accept"};

static uint32_t *times[WAYS];
static size_t made[WAYS];

static void took(enum way way, int64_t ns) {
  if (made[way] < MOST_TIMES) {
    times[way][made[way]++] = ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
  }
}

static struct sockaddr_in server_address;
static int64_t connected_at;  // when the peer of a waiting accept(2) began to connect
static int go[2];

static int connect_stream(int64_t *begun) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  *begun = now_ns();
  const int result =
      connect(fd, (const struct sockaddr *)&server_address, sizeof server_address);
  count(result);
  return fd;
}

static void reset(int fd) {
  const struct linger at_once = {1, 0};
  setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  close(fd);
}

static void *be_accepted(void *argument) {
  char byte;
  (void)argument;
  while (read(go[0], &byte, 1) == 1) {
    pause_ns(300000);
    reset(connect_stream(&connected_at));
  }
  return NULL;
}

static int quiet(long pause_us) {
  socklen_t length = sizeof server_address;
  const struct timespec at_once = {0, 0};
  sigset_t term;
  pthread_t peer;
  // No call is interrupted.
  sigemptyset(&term);
  sigaddset(&term, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &term, NULL);
  server_address = to("127.0.0.1", 0);
  const int server = socket(AF_INET, SOCK_STREAM, 0);
  const int datagrams = socket(AF_INET, SOCK_DGRAM, 0);
  if (pipe(go) != 0 || pthread_create(&peer, NULL, be_accepted, NULL) != 0 ||
      bind(server, (struct sockaddr *)&server_address, sizeof server_address) != 0 ||
      listen(server, 16) != 0 ||
      getsockname(server, (struct sockaddr *)&server_address, &length) != 0) {
    fail("the server");
  }
  for (int way = 0; way < WAYS; ++way) {
    times[way] = malloc(sizeof *times[way] * MOST_TIMES);
  }
  printf("running\n");
  fflush(stdout);
  for (int round = 0; sigtimedwait(&term, NULL, &at_once) < 0; ++round) {
    if (round == WARM_UP) {
      memset(made, 0, sizeof made);
    }
    int64_t begun = now_ns();
    count(connect(datagrams, (const struct sockaddr *)&server_address, sizeof server_address));
    took(UDP, now_ns() - begun);
    pause_ns(pause_us * 1000);
    const int fd = connect_stream(&begun);
    took(TCP, now_ns() - begun);
    close(accept(server, NULL, NULL));
    reset(fd);
    pause_ns(pause_us * 1000);
    if (write(go[1], "", 1) != 1) {
      fail("write");
    }
    const int accepted = accept(server, NULL, NULL);
    took(ACCEPT, now_ns() - connected_at);
    close(accepted);
    pause_ns(pause_us * 1000);
  }
  for (int way = 0; way < WAYS; ++way) {
    const size_t n = made[way];
    const uint32_t *of = times[way];
    qsort(times[way], n, sizeof *of, by_size);
    if (n > 0) {
      printf("{\"%s\": {\"calls\": %zu, \"p50\": %u, \"p90\": %u, \"p99\": %u, \"max\": %u}}\n",
             names[way], n, of[n / 2], of[n * 9 / 10], of[n * 99 / 100], of[n - 1]);
    }
  }
  return 0;
}

// --- the others

static struct sockaddr_in target;

static void *spin(void *argument) {
  (void)argument;
  for (volatile unsigned i = 0; !stopping;) {
    ++i;
  }
  return NULL;
}

static void *connect_often(void *argument) {
  (void)argument;
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  while (!stopping) {
    count(connect(fd, (const struct sockaddr *)&target, sizeof target));
  }
  close(fd);
  return NULL;
}

static void *scan(void *argument) {
  struct sockaddr_in address = target;
  (void)argument;
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  for (unsigned port = 1; !stopping; port = port % 60000 + 1) {
    address.sin_port = htons((uint16_t)port);
    count(connect(fd, (const struct sockaddr *)&address, sizeof address));
  }
  close(fd);
  return NULL;
}

static void *hang(void *argument) {
  (void)argument;
  while (!stopping) {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    count(fd < 0 ? fd : connect(fd, (const struct sockaddr *)&target, sizeof target));
    close(fd);
    pause_ns(100000000);
  }
  return NULL;
}

static void *connect_and_die(void *argument) {
  const int stream = argument != NULL;
  for (;;) {
    const int fd = socket(AF_INET, stream ? SOCK_STREAM : SOCK_DGRAM, 0);
    count(connect(fd, (const struct sockaddr *)&target, sizeof target));
    close(fd);
  }
  return NULL;
}

static void *sleep_and_die(void *argument) {
  (void)argument;
  for (;;) {
    pause();
  }
  return NULL;
}

static int dying(int threads, void *(*work)(void *)) {
  unsigned chance = 1;
  printf("running\n");
  fflush(stdout);
  while (!stopping) {
    const pid_t child = fork();
    if (child == 0) {
      pthread_t thread;
      for (int i = 1; i < threads; ++i) {
        pthread_create(&thread, NULL, work, i % 2 == 0 ? "" : NULL);
      }
      work(NULL);
    }
    chance = chance * 1103515245 + 12345;
    pause_ns(50000 + (chance >> 16) % 1000000);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
  }
  return 0;
}

static void *send_many(void *argument) {
  (void)argument;
  struct mmsghdr *headers = calloc(ENTRIES, sizeof *headers);
  char byte = 'x';
  struct iovec part = {&byte, 1};
  struct sockaddr_in address = to("127.0.0.1", 0);
  socklen_t length = sizeof address;
  const int server = socket(AF_INET, SOCK_DGRAM, 0);
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  if (bind(server, (struct sockaddr *)&address, sizeof address) != 0 ||
      getsockname(server, (struct sockaddr *)&address, &length) != 0) {
    fail("bind");
  }
  for (int i = 0; i < ENTRIES; ++i) {
    headers[i].msg_hdr.msg_iov = &part;
    headers[i].msg_hdr.msg_iovlen = 1;
    headers[i].msg_hdr.msg_name = &address;
    headers[i].msg_hdr.msg_namelen = sizeof address;
  }
  while (!stopping) {
    count(sendmmsg(fd, headers, ENTRIES, 0));
  }
  close(fd);
  close(server);
  free(headers);
  return NULL;
}

static int listen_often(int sockets) {
  int *fds = calloc((size_t)sockets, sizeof *fds);
  const struct sockaddr_in any = to("127.0.0.1", 0);
  printf("running\n");
  fflush(stdout);
  while (!stopping) {
    for (int i = 0; i < sockets; ++i) {
      fds[i] = socket(AF_INET, SOCK_STREAM, 0);
      count(fds[i] < 0 ? fds[i] : bind(fds[i], (const struct sockaddr *)&any, sizeof any));
      if (fds[i] >= 0) {
        count(listen(fds[i], 16));
      }
    }
    for (int i = 0; i < sockets; ++i) {
      close(fds[i]);
    }
  }
  free(fds);
  return 0;
}

static int run(int argc, char **argv) {
  const char *way = argc > 2 ? argv[1] : "";
  const int number = argc > 2 ? atoi(argv[2]) : 0;
  if (strcmp(way, "quiet") == 0) {
    return quiet(number);
  }
  target = to(argc > 3 ? argv[3] : "127.0.0.1", PORT);
  if (strcmp(way, "spin") == 0) {
    in_threads(number, spin, 1);
  } else if (strcmp(way, "connects") == 0) {
    in_threads(number, connect_often, 1);
  } else if (strcmp(way, "scan") == 0) {
    in_threads(number, scan, 1);
  } else if (strcmp(way, "hang") == 0) {
    in_threads(number, hang, 0);
  } else if (strcmp(way, "dying") == 0) {
    return dying(number, connect_and_die);
  } else if (strcmp(way, "churn") == 0) {
    return dying(number, sleep_and_die);
  } else if (strcmp(way, "sendmmsg") == 0) {
    in_threads(number, send_many, 1);
  } else if (strcmp(way, "listen") == 0) {
    return listen_often(number);
  } else {
    fprintf(stderr, "usage: flood WAY NUMBER [ADDRESS]\n");
    return 2;
  }
  return 0;
}

int main(int argc, char **argv) {
  errors = mmap(NULL, sizeof *errors * ERRORS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                -1, 0);
  // Without SA_RESTART, so that calls that wait end.
  const struct sigaction action = {.sa_handler = stop};
  sigaction(SIGTERM, &action, NULL);
  const int64_t begun = now_ns();
  const int status = run(argc, argv);
  printf("{\"seconds\": %.3f, \"done\": %lu", (double)(now_ns() - begun) / 1e9, errors[0]);
  for (int i = 1; i < ERRORS; ++i) {
    if (errors[i] != 0) {
      printf(", \"%s\": %lu", strerrorname_np(i), errors[i]);
    }
  }
  printf("}\n");
  fflush(stdout);
  _exit(status);
}
