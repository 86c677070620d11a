// names NAME...: the addresses that the C library's resolver finds, one a line.
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo* found = NULL;
    const int error = getaddrinfo(argv[i], NULL, &hints, &found);
    if (error != 0) {
      fprintf(stderr, "%s: %s\n", argv[i], gai_strerror(error));
      return 1;
    }
    for (const struct addrinfo* each = found; each != NULL; each = each->ai_next) {
      char text[INET6_ADDRSTRLEN];
      const void* address = each->ai_family == AF_INET
                                ? (const void*)&((struct sockaddr_in*)each->ai_addr)->sin_addr
                                : (const void*)&((struct sockaddr_in6*)each->ai_addr)->sin6_addr;
      puts(inet_ntop(each->ai_family, address, text, sizeof text));
    }
    freeaddrinfo(found);
  }
  return 0;
}
