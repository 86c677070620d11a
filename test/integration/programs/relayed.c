// Connections by way of a proxy whose every byte is known, and somebody who counts on the other
// side.
//
// relayed run ADDRESS          streams of different pace that stay, both ways at a time, and, from
//                              SIGUSR1 on, short connections one after the other, all on sockets
//                              in non-blocking mode, until SIGTERM and until there were ENOUGH;
//                              then "stream ID SENT RECEIVED WRONG ERRNO" for each, "short DONE
//                              FAILED" and "slow DONE FAILED"
// relayed late ADDRESS         one connection whose proxy takes its time; "late DONE ERRNO"
// relayed many ADDRESS COUNT   so many streams until SIGTERM; then "many WHOLE RESET OTHER": how
//                              many have ended well, by ECONNRESET, and in any other way
// relayed datagrams ADDRESS    datagrams that are echoed, until SIGTERM; then "connected ANSWERED
//                              LOST WRONG ERRNO" and "unconnected ...", of a socket each
// relayed serve READY ADDRESS  a SOCKS5 proxy that is the destination itself, until SIGTERM; then
//                              "stream ID SENT RECEIVED WRONG ERRNO", "short CAME TWICE",
//                              "slow CAME TWICE"; with a fourth word only the destination
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

enum {
  PROXY_PORT = 7010,
  STREAM_PORT = 7011,
  SHORT_PORT = 7012,
  SLOW_PORT = 7013,
  LATE_PORT = 7014
};
enum { ECHO_PORT = 443, PATIENCE = 1000 };
enum { PIECE = 65536, MOST = 1 << 20, MOST_STREAMS = 64, ENOUGH = 24 };

static atomic_int stopping;

static void fail(const char *what) {
  perror(what);
  exit(1);
}

static void sleep_us(long microseconds) {
  const struct timespec pause = {microseconds / 1000000, microseconds % 1000000 * 1000};
  nanosleep(&pause, NULL);
}

// The byte at that place of a stream, which is another one the other way.
static uint8_t byte_at(uint64_t offset, int back) {
  const uint64_t mixed = (offset + (back != 0 ? 77777 : 1)) * 0x9e3779b97f4a7c15U;
  return (uint8_t)(mixed >> 56);
}

struct stream {
  uint32_t id;
  uint64_t sent;
  uint64_t received;
  uint64_t wrong;  // the first wrong byte, counted from 1
  int error;
};

struct pace {
  size_t send;     // so many bytes at a time
  size_t receive;  // likewise
  long pause_us;   // after each time
};

// Both ways at a time, until `stopping` or the other side's end; then its own end.
static void talk(int fd, struct stream *stream, struct pace pace, int is_client) {
  static _Thread_local uint8_t out[PIECE];
  static _Thread_local uint8_t in[PIECE];
  int writing = 1;
  for (;;) {
    if (writing && is_client && stopping) {
      writing = 0;
      shutdown(fd, SHUT_WR);
    }
    struct pollfd ready = {fd, (short)(POLLIN | (writing ? POLLOUT : 0)), 0};
    poll(&ready, 1, 100);
    if (writing && (ready.revents & POLLOUT) != 0) {
      for (size_t i = 0; i < pace.send; ++i) {
        out[i] = byte_at(stream->sent + i, !is_client);
      }
      const ssize_t put = send(fd, out, pace.send, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (put < 0 && errno != EAGAIN) {
        stream->error = errno;
        return;
      }
      stream->sent += put > 0 ? (uint64_t)put : 0;
    }
    const ssize_t got = recv(fd, in, writing ? pace.receive : PIECE, MSG_DONTWAIT);
    if (got < 0 && errno != EAGAIN) {
      stream->error = errno;
      return;
    }
    for (ssize_t i = 0; i < got; ++i) {
      if (in[i] != byte_at(stream->received + (uint64_t)i, is_client) && stream->wrong == 0) {
        stream->wrong = stream->received + (uint64_t)i + 1;
      }
    }
    stream->received += got > 0 ? (uint64_t)got : 0;
    if (got == 0) {
      if (!is_client) {
        shutdown(fd, SHUT_WR);
      } else if (writing) {
        stream->error = ENODATA;  // an end that the other side has not made
      }
      return;
    }
    sleep_us(pace.pause_us);
  }
}

// --- the program in the container

static const char *address;

static int start_connection(int port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  int error = inet_pton(AF_INET, address, &to.sin_addr) == 1 ? 0 : EINVAL;
  if (error == 0 && connect(fd, (struct sockaddr *)&to, sizeof to) != 0) {
    struct pollfd ready = {fd, POLLOUT, 0};
    socklen_t length = sizeof error;
    error = errno;
    if (error == EINPROGRESS) {
      poll(&ready, 1, -1);
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
    }
  }
  struct sockaddr_in peer = {0};
  socklen_t length = sizeof peer;
  if (error == 0 && getpeername(fd, (struct sockaddr *)&peer, &length) == 0 &&
      peer.sin_addr.s_addr != to.sin_addr.s_addr) {
    error = ESTALE;
  }
  if (error != 0) {
    close(fd);
    errno = error;
    return -1;
  }
  return fd;
}

struct client {
  struct stream stream;
  struct pace pace;
};

static struct client clients[] = {
    {{.id = 1}, {PIECE, PIECE, 1000}},  // much, both ways
    {{.id = 2}, {100, PIECE, 1000}},    // little at a time
    {{.id = 3}, {PIECE, 2000, 3000}},   // reads slowly: what comes fills all there is on the way
    {{.id = 4}, {1000, 1000, 200}},
};
enum { CLIENTS = sizeof clients / sizeof *clients };
static atomic_int streaming;

static void *keep_stream(void *argument) {
  struct client *client = argument;
  const int fd = start_connection(STREAM_PORT);
  if (fd < 0) {
    client->stream.error = errno;
  } else {
    send(fd, &client->stream.id, sizeof client->stream.id, MSG_NOSIGNAL);
    ++streaming;
    talk(fd, &client->stream, client->pace, 1);
    struct sockaddr_in peer = {0};
    socklen_t length = sizeof peer;
    struct in_addr asked;
    if (client->stream.error == 0 && inet_pton(AF_INET, address, &asked) == 1 &&
        getpeername(fd, (struct sockaddr *)&peer, &length) == 0 &&
        (peer.sin_addr.s_addr != asked.s_addr || peer.sin_port != htons(STREAM_PORT))) {
      client->stream.error = ESTALE;
    }
    close(fd);
  }
  return NULL;
}

struct shorts {
  int port;
  atomic_uint done;
  atomic_uint failed;
  int error;
};
static struct shorts shorts[] = {{.port = SHORT_PORT}, {.port = SLOW_PORT}};

static void *make_short(void *argument) {
  struct shorts *job = argument;
  while (!stopping && job->done + job->failed < MOST) {
    const uint32_t number = job->done + job->failed;
    const int fd = start_connection(job->port);
    struct pollfd ready = {fd, POLLIN, 0};
    char end = 0;
    if (fd >= 0 && send(fd, &number, sizeof number, MSG_NOSIGNAL) == sizeof number &&
        poll(&ready, 1, -1) == 1 && recv(fd, &end, 1, 0) == 0) {
      ++job->done;
    } else {
      job->error = errno;
      ++job->failed;
    }
    close(fd);
    sleep_us(500);
  }
  return NULL;
}

static int late(void) {
  const int fd = start_connection(LATE_PORT);
  const int error = errno;
  const uint32_t number = 0;
  char end = 0;
  if (fd < 0) {
    printf("late 0 %d\n", error);
    return 0;
  }
  struct pollfd ready = {fd, POLLIN, 0};
  const int done = send(fd, &number, sizeof number, MSG_NOSIGNAL) == sizeof number &&
                   poll(&ready, 1, -1) == 1 && recv(fd, &end, 1, 0) == 0;
  printf("late %d %d\n", done, done ? 0 : errno);
  return 0;
}

static sigset_t block_signals(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &set, NULL);
  return set;
}

static int many(unsigned count) {
  static struct client all[MOST_STREAMS];
  static pthread_t threads[MOST_STREAMS];
  const sigset_t set = block_signals();
  unsigned ended[3] = {0, 0, 0};
  int number = 0;
  for (unsigned i = 0; i < count && i < MOST_STREAMS; ++i) {
    all[i] = (struct client){{.id = 100 + i}, {100, PIECE, 5000}};
    if (pthread_create(&threads[i], NULL, keep_stream, &all[i]) != 0) {
      fail("pthread_create");
    }
  }
  while (streaming < (int)count) {
    sleep_us(1000);
  }
  printf("running\n");
  fflush(stdout);
  sigwait(&set, &number);
  stopping = 1;
  for (unsigned i = 0; i < count && i < MOST_STREAMS; ++i) {
    pthread_join(threads[i], NULL);
    const struct stream *one = &all[i].stream;
    ++ended[one->error == 0 && one->wrong == 0 ? 0 : one->error == ECONNRESET ? 1 : 2];
  }
  printf("many %u %u %u\n", ended[0], ended[1], ended[2]);
  return 0;
}

struct echoes {
  int connects;
  uint32_t answered;
  uint32_t lost;
  uint32_t wrong;
  int error;
};

static void *send_datagrams(void *argument) {
  struct echoes *job = argument;
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(ECHO_PORT)};
  if (inet_pton(AF_INET, address, &to.sin_addr) != 1 ||
      (job->connects && connect(fd, (struct sockaddr *)&to, sizeof to) != 0)) {
    job->error = errno;
  }
  for (uint32_t number = 0; !stopping && job->error == 0; ++number) {
    const ssize_t put =
        job->connects ? send(fd, &number, sizeof number, 0)
                      : sendto(fd, &number, sizeof number, 0, (struct sockaddr *)&to, sizeof to);
    job->error = put < 0 ? errno : 0;
    struct pollfd ready = {fd, POLLIN, 0};
    uint32_t got = number - 1;
    // What comes late is of one that counts as lost.
    while (job->error == 0 && got != number && poll(&ready, 1, PATIENCE) == 1) {
      struct sockaddr_in from = {0};
      socklen_t length = sizeof from;
      if (recvfrom(fd, &got, sizeof got, 0, (struct sockaddr *)&from, &length) < 0) {
        job->error = errno;
      }
      job->wrong += job->error == 0 &&
                    (from.sin_addr.s_addr != to.sin_addr.s_addr || from.sin_port != to.sin_port);
    }
    job->answered += got == number;
    job->lost += got != number;
    sleep_us(1000);
  }
  struct sockaddr_in peer = {0};
  socklen_t length = sizeof peer;
  if (job->error == 0 && job->connects &&
      (getpeername(fd, (struct sockaddr *)&peer, &length) != 0 ||
       peer.sin_addr.s_addr != to.sin_addr.s_addr || peer.sin_port != to.sin_port)) {
    job->error = ESTALE;
  }
  close(fd);
  return NULL;
}

static int datagrams(void) {
  static struct echoes jobs[] = {{.connects = 1}, {.connects = 0}};
  const sigset_t set = block_signals();
  pthread_t threads[2];
  int number = 0;
  for (int i = 0; i < 2; ++i) {
    if (pthread_create(&threads[i], NULL, send_datagrams, &jobs[i]) != 0) {
      fail("pthread_create");
    }
  }
  printf("running\n");
  fflush(stdout);
  sigwait(&set, &number);
  stopping = 1;
  for (int i = 0; i < 2; ++i) {
    pthread_join(threads[i], NULL);
    printf("%s %u %u %u %d\n", i == 0 ? "connected" : "unconnected", jobs[i].answered, jobs[i].lost,
           jobs[i].wrong, jobs[i].error);
  }
  return 0;
}

static int run(void) {
  pthread_t threads[CLIENTS + 2];
  const sigset_t set = block_signals();
  int number = 0;
  int begun = 0;
  for (; begun < CLIENTS; ++begun) {
    if (pthread_create(&threads[begun], NULL, keep_stream, &clients[begun]) != 0) {
      fail("pthread_create");
    }
  }
  while (streaming < CLIENTS) {
    sleep_us(1000);
  }
  printf("running\n");
  fflush(stdout);
  sigwait(&set, &number);
  for (; number == SIGUSR1 && begun < CLIENTS + 2; ++begun) {
    if (pthread_create(&threads[begun], NULL, make_short, &shorts[begun - CLIENTS]) != 0) {
      fail("pthread_create");
    }
  }
  while (number != SIGTERM) {
    sigwait(&set, &number);
  }
  // On a busy machine few are done in a second, and a few prove nothing.
  while (begun > CLIENTS && shorts[0].done + shorts[0].failed < ENOUGH) {
    sleep_us(1000);
  }
  stopping = 1;
  for (int i = 0; i < begun; ++i) {
    pthread_join(threads[i], NULL);
  }
  for (int i = 0; i < CLIENTS; ++i) {
    const struct stream *one = &clients[i].stream;
    printf("stream%u %llu %llu %llu %d\n", one->id, (unsigned long long)one->sent,
           (unsigned long long)one->received, (unsigned long long)one->wrong, one->error);
  }
  printf("short %u %u %d\n", shorts[0].done, shorts[0].failed, shorts[0].error);
  printf("slow %u %u %d\n", shorts[1].done, shorts[1].failed, shorts[1].error);
  return 0;
}

// --- the other side

static struct stream streams[MOST_STREAMS];
static atomic_uint stream_count;
static atomic_uint talking;
static atomic_uint came[2];
static atomic_uint twice[2];
static atomic_uchar *seen[2];

static int read_all(int fd, void *into, size_t size) {
  return recv(fd, into, size, MSG_WAITALL) == (ssize_t)size ? 0 : -1;
}

// RFC 1928, without authentication, for IPv4. The port, or -1.
static int take_request(int fd) {
  uint8_t head[4];
  uint8_t rest[255];
  uint16_t port = 0;
  if (read_all(fd, head, 2) != 0 || read_all(fd, rest, head[1]) != 0 ||
      send(fd, "\5\0", 2, MSG_NOSIGNAL) != 2 || read_all(fd, head, 4) != 0 || head[3] != 1 ||
      read_all(fd, rest, 4) != 0 || read_all(fd, &port, 2) != 0) {
    return -1;
  }
  port = ntohs(port);
  if (port == SLOW_PORT || port == LATE_PORT) {
    sleep_us(port == SLOW_PORT ? 150000 : 1500000);
  }
  return send(fd, "\5\0\0\1\0\0\0\0\0\0", 10, MSG_NOSIGNAL) == 10 ? port : -1;
}

static void *serve_one(void *argument) {
  const int fd = (int)(intptr_t)argument;
  struct sockaddr_in own = {0};
  socklen_t length = sizeof own;
  getsockname(fd, (struct sockaddr *)&own, &length);
  const int port = ntohs(own.sin_port) == PROXY_PORT ? take_request(fd) : (int)ntohs(own.sin_port);
  uint32_t number = 0;
  if (port > 0 && read_all(fd, &number, sizeof number) == 0) {
    if (port == STREAM_PORT && stream_count < MOST_STREAMS) {
      struct stream *stream = &streams[stream_count++];
      const struct pace pace = number == 2   ? (struct pace){100, PIECE, 1000}
                               : number == 3 ? (struct pace){PIECE, PIECE, 500}
                                             : (struct pace){PIECE / 2, PIECE, 1000};
      stream->id = number;
      ++talking;
      talk(fd, stream, pace, 0);
      --talking;
    } else if (port != STREAM_PORT && number < MOST) {
      const int slow = port == SLOW_PORT;
      ++came[slow];
      twice[slow] += seen[slow][number]++ != 0;
    }
  }
  close(fd);
  return NULL;
}

static void *accept_all(void *argument) {
  const int listener = *(int *)argument;
  for (;;) {
    const int fd = accept(listener, NULL, NULL);
    pthread_t thread;
    if (fd >= 0 && pthread_create(&thread, NULL, serve_one, (void *)(intptr_t)fd) == 0) {
      pthread_detach(thread);
    }
  }
  return NULL;
}

static void listen_at(int port, int *listener) {
  struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
  const int on = 1;
  pthread_t thread;
  *listener = socket(AF_INET, SOCK_STREAM, 0);
  setsockopt(*listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (inet_pton(AF_INET, address, &own.sin_addr) != 1 ||
      bind(*listener, (struct sockaddr *)&own, sizeof own) != 0 || listen(*listener, 1024) != 0 ||
      pthread_create(&thread, NULL, accept_all, listener) != 0) {
    fail("listen");
  }
}

static int serve(const char *ready, int only_destination) {
  static int listeners[3];
  const sigset_t set = block_signals();
  int number = 0;
  seen[0] = calloc(MOST, 1);
  seen[1] = calloc(MOST, 1);
  if (only_destination) {
    listen_at(STREAM_PORT, &listeners[0]);
    listen_at(SHORT_PORT, &listeners[1]);
    listen_at(SLOW_PORT, &listeners[2]);
  } else {
    listen_at(PROXY_PORT, &listeners[0]);
  }
  close(open(ready, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  sigwait(&set, &number);
  for (int i = 0; i < 500 && talking != 0; ++i) {
    sleep_us(10000);
  }
  for (unsigned i = 0; i < stream_count; ++i) {
    printf("stream%u %llu %llu %llu %d\n", streams[i].id, (unsigned long long)streams[i].sent,
           (unsigned long long)streams[i].received, (unsigned long long)streams[i].wrong,
           streams[i].error);
  }
  printf("streams %u\nshort %u %u\nslow %u %u\n", stream_count, came[0], twice[0], came[1],
         twice[1]);
  fflush(stdout);
  _exit(0);
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "run") == 0) {
    address = argv[2];
    return run();
  }
  if (argc == 3 && strcmp(argv[1], "late") == 0) {
    address = argv[2];
    return late();
  }
  if (argc == 4 && strcmp(argv[1], "many") == 0) {
    address = argv[2];
    return many((unsigned)atoi(argv[3]));
  }
  if (argc == 3 && strcmp(argv[1], "datagrams") == 0) {
    address = argv[2];
    return datagrams();
  }
  if (argc >= 4 && strcmp(argv[1], "serve") == 0) {
    address = argv[3];
    return serve(argv[2], argc > 4);
  }
  fprintf(stderr,
          "usage: relayed run ADDRESS | late ADDRESS | many ADDRESS COUNT | datagrams ADDRESS | "
          "serve READY ADDRESS [destination]\n");
  return 2;
}
