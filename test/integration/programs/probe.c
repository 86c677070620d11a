// probe STEP...: performs network calls and prints one JSON line for each.
//
// Every argument is one step: words separated by blanks. A slot (0..15) names a socket.
//   socket SLOT FAMILY TYPE [PROTOCOL] [nonblock]   FAMILY inet|inet6|unix|netlink|packet|vsock|N
//                                                   TYPE stream|dgram|raw|seqpacket|N
//   connect SLOT ADDRESS...        bind SLOT ADDRESS...
//   sendto SLOT FLAGS DATA ADDRESS...               FLAGS a number, e.g. 0 or 0x20000000
//   sendmsg SLOT FLAGS DATA ADDRESS...
//   sendmmsg SLOT FLAGS DATA ADDRESS... [, ADDRESS...]...
//   send SLOT DATA                 recv SLOT        listen SLOT BACKLOG
//   accept SLOT NEWSLOT [nonblock] accept4 (the same) shutdown SLOT HOW
//   timeout SLOT snd|rcv MS        nonblock SLOT 0|1 poll SLOT in|out MS
//   sockerr SLOT                   sockname SLOT    peername SLOT
//   close SLOT                     dup SLOT NEWSLOT
//   sleep MS                       alarm MS [restart]
//   tcp ADDRESS... [DATA]          socket, connect, send and receive when DATA is given, close
//   udp ADDRESS... [DATA]          socket, sendto, receive (up to 500 ms), close
//   wait PATH                      until PATH exists (at most 60 s)
//   exec PROGRAM ARGS...
// ADDRESS is "10.0.0.1 80", "fd00::1 80", "fe80::1%3 80" (scope number), "unix /path", "unix
// @name", "unspec" or "none". A line is
// {"step":N,"op":"connect","ret":R,"errno":"EACCES","ms":0.123,...}; errno is "" on success.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { kSlots = 16, kWords = 64, kMessages = 16 };

struct address {
  struct sockaddr_storage storage;
  socklen_t length;  // 0: none
};

static int slots[kSlots];
static char extra[1024];  // further JSON members, each with a leading comma

static void Usage(const char* step, const char* why) {
  fprintf(stderr, "probe: %s: %s\n", step, why);
  exit(2);
}

static double Now(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static int* Slot(const char* word) {
  const int slot = word == NULL ? -1 : atoi(word);
  if (slot < 0 || slot >= kSlots) {
    Usage(word == NULL ? "(none)" : word, "slot must be 0 to 15");
  }
  return &slots[slot];
}

// Reads an address from words[*at]; returns false at the end of the words.
static int Address(char** words, int* at, struct address* out) {
  memset(out, 0, sizeof(*out));
  const char* word = words[*at];
  if (word == NULL || strcmp(word, ",") == 0) {
    return 0;
  }
  if (strcmp(word, "none") == 0) {
    *at += 1;
    return 1;
  }
  if (strcmp(word, "unspec") == 0) {
    out->storage.ss_family = AF_UNSPEC;
    out->length = sizeof(struct sockaddr_in);
    *at += 1;
    return 1;
  }
  const char* second = words[*at + 1];
  if (second == NULL) {
    Usage(word, "an address needs a port");
  }
  *at += 2;
  if (strcmp(word, "unix") == 0) {
    struct sockaddr_un* un = (struct sockaddr_un*)&out->storage;
    un->sun_family = AF_UNIX;
    strncpy(un->sun_path, second, sizeof(un->sun_path) - 1);
    out->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(second));
    if (second[0] == '@') {
      un->sun_path[0] = 0;
    } else {
      out->length += 1;
    }
    return 1;
  }
  if (strchr(word, ':') != NULL) {
    struct sockaddr_in6* in6 = (struct sockaddr_in6*)&out->storage;
    char text[64] = {0};
    strncpy(text, word, sizeof(text) - 1);
    char* scope = strchr(text, '%');
    if (scope != NULL) {
      *scope = 0;
      in6->sin6_scope_id = (uint32_t)strtoul(scope + 1, NULL, 10);
    }
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons((uint16_t)atoi(second));
    if (inet_pton(AF_INET6, text, &in6->sin6_addr) != 1) {
      Usage(word, "not an IPv6 address");
    }
    out->length = sizeof(*in6);
    return 1;
  }
  struct sockaddr_in* in = (struct sockaddr_in*)&out->storage;
  in->sin_family = AF_INET;
  in->sin_port = htons((uint16_t)atoi(second));
  if (inet_pton(AF_INET, word, &in->sin_addr) != 1) {
    Usage(word, "not an IPv4 address");
  }
  out->length = sizeof(*in);
  return 1;
}

static const struct sockaddr* Pointer(const struct address* address) {
  return address->length == 0 ? NULL : (const struct sockaddr*)&address->storage;
}

static int Family(const char* word) {
  static const struct {
    const char* name;
    int value;
  } kNames[] = {{"inet", AF_INET},       {"inet6", AF_INET6},   {"unix", AF_UNIX},
                {"netlink", AF_NETLINK}, {"packet", AF_PACKET}, {"vsock", AF_VSOCK}};
  for (size_t i = 0; i < sizeof(kNames) / sizeof(kNames[0]); ++i) {
    if (strcmp(word, kNames[i].name) == 0) {
      return kNames[i].value;
    }
  }
  return atoi(word);
}

static int Type(const char* word) {
  return strcmp(word, "stream") == 0      ? SOCK_STREAM
         : strcmp(word, "dgram") == 0     ? SOCK_DGRAM
         : strcmp(word, "raw") == 0       ? SOCK_RAW
         : strcmp(word, "seqpacket") == 0 ? SOCK_SEQPACKET
                                          : atoi(word);
}

static void PrintName(const struct sockaddr_storage* storage, socklen_t length) {
  char text[INET6_ADDRSTRLEN] = "";
  if (storage->ss_family == AF_INET && length >= sizeof(struct sockaddr_in)) {
    const struct sockaddr_in* in = (const struct sockaddr_in*)storage;
    inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
    snprintf(extra, sizeof(extra), ",\"ip\":\"%s\",\"port\":%u", text, ntohs(in->sin_port));
  } else if (storage->ss_family == AF_INET6 && length >= sizeof(struct sockaddr_in6)) {
    const struct sockaddr_in6* in6 = (const struct sockaddr_in6*)storage;
    inet_ntop(AF_INET6, &in6->sin6_addr, text, sizeof(text));
    snprintf(extra, sizeof(extra), ",\"ip\":\"%s\",\"port\":%u", text, ntohs(in6->sin6_port));
  } else {
    snprintf(extra, sizeof(extra), ",\"family\":%u", storage->ss_family);
  }
}

static long Received(int fd) {
  char data[65536];
  const ssize_t got = recv(fd, data, sizeof(data), 0);
  if (got >= 0) {
    char shown[256];
    size_t used = 0;
    for (ssize_t i = 0; i < got && used + 2 < sizeof(shown); ++i) {
      const unsigned char c = (unsigned char)data[i];
      shown[used++] = (c < 0x20 || c > 0x7e || c == '"' || c == '\\') ? '.' : (char)c;
    }
    shown[used] = 0;
    const int saved = errno;
    snprintf(extra, sizeof(extra), ",\"data\":\"%s\"", shown);
    errno = saved;
  }
  return (long)got;
}

static long SendMessages(int fd, int many, char** words) {
  const int flags = (int)strtoul(words[2], NULL, 0);
  char* data = words[3];
  struct iovec iov = {data, strlen(data)};
  struct address addresses[kMessages];
  struct mmsghdr messages[kMessages];
  memset(messages, 0, sizeof(messages));
  int at = 4;
  int count = 0;
  while (count < kMessages && Address(words, &at, &addresses[count])) {
    struct msghdr* header = &messages[count].msg_hdr;
    header->msg_name = addresses[count].length == 0 ? NULL : &addresses[count].storage;
    header->msg_namelen = addresses[count].length;
    header->msg_iov = &iov;
    header->msg_iovlen = 1;
    ++count;
    if (words[at] != NULL) {
      ++at;  // the comma
    }
  }
  if (count == 0) {
    Usage(words[0], "needs an address (or none)");
  }
  return many ? sendmmsg(fd, messages, (unsigned)count, flags)
              : sendmsg(fd, &messages[0].msg_hdr, flags);
}

static void OnAlarm(int signal_number) { (void)signal_number; }

static long Alarm(const char* milliseconds, int restart) {
  struct sigaction action = {0};
  action.sa_handler = OnAlarm;
  action.sa_flags = restart ? SA_RESTART : 0;
  sigaction(SIGALRM, &action, NULL);
  const long ms = atol(milliseconds);
  struct itimerval timer = {{0, 0}, {ms / 1000, (ms % 1000) * 1000}};
  return setitimer(ITIMER_REAL, &timer, NULL);
}

static long SetTimeout(int fd, int option, const char* milliseconds) {
  const long ms = atol(milliseconds);
  const struct timeval value = {ms / 1000, (ms % 1000) * 1000};
  return setsockopt(fd, SOL_SOCKET, option, &value, sizeof(value));
}

static long WaitFor(const char* path) {
  for (int i = 0; i < 6000; ++i) {
    if (access(path, F_OK) == 0) {
      return 0;
    }
    usleep(10000);
  }
  errno = ETIMEDOUT;
  return -1;
}

static long Exchange(int dgram, char** words) {
  struct address address;
  int at = 1;
  if (!Address(words, &at, &address)) {
    Usage(words[0], "needs an address");
  }
  const char* data = words[at];
  const int fd =
      socket(address.storage.ss_family, (dgram ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    snprintf(extra, sizeof(extra), ",\"at\":\"socket\"");
    return -1;
  }
  long result = 0;
  if (dgram) {
    data = data == NULL ? "probe" : data;
    snprintf(extra, sizeof(extra), ",\"at\":\"sendto\"");
    result = sendto(fd, data, strlen(data), 0, Pointer(&address), address.length);
    if (result >= 0) {
      SetTimeout(fd, SO_RCVTIMEO, "500");
      snprintf(extra, sizeof(extra), ",\"at\":\"recv\"");
      result = Received(fd);
    }
  } else {
    snprintf(extra, sizeof(extra), ",\"at\":\"connect\"");
    result = connect(fd, Pointer(&address), address.length);
    if (result == 0 && data != NULL) {
      SetTimeout(fd, SO_RCVTIMEO, "2000");
      result = send(fd, data, strlen(data), MSG_NOSIGNAL);
      if (result >= 0) {
        snprintf(extra, sizeof(extra), ",\"at\":\"recv\"");
        result = Received(fd);
      }
    }
  }
  const int saved = errno;
  close(fd);
  errno = saved;
  return result;
}

static long Socket(char** words, int count) {
  if (count < 4) {
    Usage(words[0], "SLOT FAMILY TYPE [PROTOCOL] [nonblock]");
  }
  int type = Type(words[3]) | SOCK_CLOEXEC;
  int protocol = 0;
  for (int i = 4; i < count; ++i) {
    if (strcmp(words[i], "nonblock") == 0) {
      type |= SOCK_NONBLOCK;
    } else {
      protocol = atoi(words[i]);
    }
  }
  int* slot = Slot(words[1]);
  *slot = socket(Family(words[2]), type, protocol);
  return *slot < 0 ? -1 : 0;
}

static long Accept(char** words, int count) {
  struct sockaddr_storage peer = {0};
  socklen_t length = sizeof(peer);
  const int fd = *Slot(words[1]);
  int* target = Slot(words[2]);
  if (strcmp(words[0], "accept4") == 0) {
    const int flags = count > 3 && strcmp(words[3], "nonblock") == 0 ? SOCK_NONBLOCK : 0;
    *target = accept4(fd, (struct sockaddr*)&peer, &length, flags | SOCK_CLOEXEC);
  } else {
    *target = accept(fd, (struct sockaddr*)&peer, &length);
  }
  if (*target < 0) {
    return -1;
  }
  PrintName(&peer, length);
  return 0;
}

static long Named(const char* op, int fd) {
  struct sockaddr_storage name = {0};
  socklen_t length = sizeof(name);
  const int result = strcmp(op, "sockname") == 0
                         ? getsockname(fd, (struct sockaddr*)&name, &length)
                         : getpeername(fd, (struct sockaddr*)&name, &length);
  if (result == 0) {
    PrintName(&name, length);
  }
  return result;
}

static long SocketError(int fd) {
  int value = 0;
  socklen_t length = sizeof(value);
  const int result = getsockopt(fd, SOL_SOCKET, SO_ERROR, &value, &length);
  const char* name = value == 0 ? "" : strerrorname_np(value);
  snprintf(extra, sizeof(extra), ",\"so_error\":\"%s\"", name == NULL ? "?" : name);
  return result;
}

static long Poll(int fd, const char* what, const char* milliseconds) {
  struct pollfd pollfd = {fd, strcmp(what, "out") == 0 ? POLLOUT : POLLIN, 0};
  const int result = poll(&pollfd, 1, atoi(milliseconds));
  snprintf(extra, sizeof(extra), ",\"revents\":%d", pollfd.revents);
  return result;
}

static long Perform(char** words, int count) {
  const char* op = words[0];
  struct address address;
  int at = 2;
  if (strcmp(op, "sleep") == 0 && count == 2) {
    return usleep((useconds_t)atol(words[1]) * 1000);
  }
  if (strcmp(op, "alarm") == 0 && count >= 2) {
    return Alarm(words[1], count > 2);
  }
  if (strcmp(op, "wait") == 0 && count == 2) {
    return WaitFor(words[1]);
  }
  if (strcmp(op, "tcp") == 0) {
    return Exchange(0, words);
  }
  if (strcmp(op, "udp") == 0) {
    return Exchange(1, words);
  }
  if (strcmp(op, "exec") == 0 && count >= 2) {
    fflush(stdout);
    return execv(words[1], &words[1]);
  }
  if (strcmp(op, "socket") == 0) {
    return Socket(words, count);
  }
  if (count < 2) {
    Usage(op, "unknown step, or a word is missing");
  }
  int* slot = Slot(words[1]);
  if (strcmp(op, "connect") == 0 && Address(words, &at, &address)) {
    return connect(*slot, Pointer(&address), address.length);
  }
  if (strcmp(op, "bind") == 0 && Address(words, &at, &address)) {
    return bind(*slot, Pointer(&address), address.length);
  }
  if (strcmp(op, "sendto") == 0 && count >= 5) {
    at = 4;
    Address(words, &at, &address);
    return sendto(*slot, words[3], strlen(words[3]), (int)strtoul(words[2], NULL, 0),
                  Pointer(&address), address.length);
  }
  if ((strcmp(op, "sendmsg") == 0 || strcmp(op, "sendmmsg") == 0) && count >= 5) {
    return SendMessages(*slot, strcmp(op, "sendmmsg") == 0, words);
  }
  if (strcmp(op, "send") == 0 && count == 3) {
    return send(*slot, words[2], strlen(words[2]), MSG_NOSIGNAL);
  }
  if (strcmp(op, "recv") == 0) {
    return Received(*slot);
  }
  if (strcmp(op, "listen") == 0 && count == 3) {
    return listen(*slot, atoi(words[2]));
  }
  if ((strcmp(op, "accept") == 0 || strcmp(op, "accept4") == 0) && count >= 3) {
    return Accept(words, count);
  }
  if (strcmp(op, "shutdown") == 0 && count == 3) {
    return shutdown(*slot, atoi(words[2]));
  }
  if (strcmp(op, "timeout") == 0 && count == 4) {
    return SetTimeout(*slot, strcmp(words[2], "snd") == 0 ? SO_SNDTIMEO : SO_RCVTIMEO, words[3]);
  }
  if (strcmp(op, "nonblock") == 0 && count == 3) {
    const int flags = fcntl(*slot, F_GETFL);
    return fcntl(*slot, F_SETFL, atoi(words[2]) ? flags | O_NONBLOCK : flags & ~O_NONBLOCK);
  }
  if (strcmp(op, "poll") == 0 && count == 4) {
    return Poll(*slot, words[2], words[3]);
  }
  if (strcmp(op, "sockerr") == 0) {
    return SocketError(*slot);
  }
  if (strcmp(op, "sockname") == 0 || strcmp(op, "peername") == 0) {
    return Named(op, *slot);
  }
  if (strcmp(op, "close") == 0) {
    return close(*slot);
  }
  if (strcmp(op, "dup") == 0 && count == 3) {
    int* target = Slot(words[2]);
    *target = dup(*slot);
    return *target < 0 ? -1 : 0;
  }
  Usage(op, "unknown step, or a word is missing");
  return -1;
}

int main(int argc, char** argv) {
  for (int i = 0; i < kSlots; ++i) {
    slots[i] = -1;
  }
  for (int i = 1; i < argc; ++i) {
    char* words[kWords + 1] = {0};
    int count = 0;
    char* rest = NULL;
    for (char* word = strtok_r(argv[i], " ", &rest); word != NULL && count < kWords;
         word = strtok_r(NULL, " ", &rest)) {
      words[count++] = word;
    }
    if (count == 0) {
      continue;
    }
    extra[0] = 0;
    errno = 0;
    const double start = Now();
    const long result = Perform(words, count);
    const int error = result < 0 ? errno : 0;
    const double ms = Now() - start;
    const char* name = error == 0 ? "" : strerrorname_np(error);
    printf("{\"step\":%d,\"op\":\"%s\",\"ret\":%ld,\"errno\":\"%s\",\"ms\":%.3f%s}\n", i - 1,
           words[0], result, name == NULL ? "?" : name, ms, extra);
    fflush(stdout);
  }
  return 0;
}
