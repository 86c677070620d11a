// Connections that wait, by the hundred.
// held ADDRESS PORT COUNT: begins them on sockets in non-blocking mode and prints "begun N"; when each
// of them has come to something, "connected N FAILED ERRNO".
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { MOST = 4096 };

int main(int argc, char** argv) {
  static struct pollfd waiting[MOST];
  struct sockaddr_in to = {.sin_family = AF_INET};
  const int count = argc == 4 ? atoi(argv[3]) : 0;
  int begun = 0;
  int connected = 0;
  int last = 0;
  if (count < 1 || count > MOST || inet_pton(AF_INET, argv[1], &to.sin_addr) != 1) {
    return 2;
  }
  to.sin_port = htons((uint16_t)atoi(argv[2]));
  for (int i = 0; i < count; ++i) {
    waiting[i].fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    waiting[i].events = POLLOUT;
    if (connect(waiting[i].fd, (struct sockaddr*)&to, sizeof to) == 0 || errno != EINPROGRESS) {
      last = errno;
    } else {
      ++begun;
    }
  }
  printf("begun %d\n", begun);
  fflush(stdout);
  for (int i = 0; i < count; ++i) {
    int error = 0;
    socklen_t length = sizeof error;
    poll(&waiting[i], 1, -1);
    if (getsockopt(waiting[i].fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 && error == 0) {
      ++connected;
    } else {
      last = error;
    }
  }
  printf("connected %d %d %d\n", connected, count - connected, last);
  return 0;
}
