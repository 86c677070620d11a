// Unix sockets, descriptors and credentials in messages, netlink.
#include "support.h"

namespace oakum::fidelity {

void AddUnixCases(std::vector<Case>& cases) {
  CASE("unix stream by path, credentials") {
    const std::string path = "/tmp/oakum-fidelity-" + std::to_string(getpid());
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path.c_str());
    const Fd listener(socket(AF_UNIX, SOCK_STREAM, 0));
    std::string result = Result(bind(listener, Generic(address), sizeof address));
    listen(listener, 4);
    const Fd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    result += " " + Result(connect(fd, Generic(address), sizeof address));
    const Fd peer(accept(listener, nullptr, nullptr));
    ucred credentials = {};
    socklen_t length = sizeof credentials;
    getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &credentials, &length);
    result += " uid " + std::to_string(credentials.uid) + " gid " + std::to_string(credentials.gid);
    sockaddr_un name = {};
    length = sizeof name;
    getpeername(fd, Generic(name), &length);
    result += path == name.sun_path ? " name right" : std::string(" name ") + name.sun_path;
    unlink(path.c_str());
    const Fd late(socket(AF_UNIX, SOCK_STREAM, 0));
    return result + " then " + Result(connect(late, Generic(address), sizeof address));
  } END);
  CASE("unix stream by relative path") {
    const std::string path = "oakum-fidelity-rel-" + std::to_string(getpid());
    if (chdir("/tmp") != 0) {
      return "chdir";
    }
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path.c_str());
    const Fd listener(socket(AF_UNIX, SOCK_STREAM, 0));
    std::string result = Result(bind(listener, Generic(address), sizeof address));
    listen(listener, 4);
    const Fd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    result += " " + Result(connect(fd, Generic(address), sizeof address));
    unlink(path.c_str());
    return result;
  } END);
  CASE("unix stream in a working directory that is the caller's alone") {
    // postgres binds its socket so: its working directory is its data.
    const std::string directory = "/tmp/oakum-fidelity-own-" + std::to_string(getpid());
    if (mkdir(directory.c_str(), 0700) != 0 || chdir(directory.c_str()) != 0) {
      return "directory";
    }
    std::string result;
    for (const std::string& path : {std::string("here"), directory + "/absolute"}) {
      sockaddr_un address = {};
      address.sun_family = AF_UNIX;
      strcpy(address.sun_path, path.c_str());
      const Fd listener(socket(AF_UNIX, SOCK_STREAM, 0));
      result += " " + Result(bind(listener, Generic(address), sizeof address));
      listen(listener, 4);
      const Fd fd(socket(AF_UNIX, SOCK_STREAM, 0));
      result += " " + Result(connect(fd, Generic(address), sizeof address));
      unlink(path.c_str());
    }
    if (chdir("/") != 0 || rmdir(directory.c_str()) != 0) {
      result += " left behind";
    }
    return result;
  } END);
  CASE("unix stream abstract") {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string name = "oakum-fidelity-" + std::to_string(getpid());
    memcpy(address.sun_path + 1, name.data(), name.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    const Fd listener(socket(AF_UNIX, SOCK_STREAM, 0));
    std::string result = Result(bind(listener, Generic(address), length));
    listen(listener, 0);
    const Fd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    result += " " + Result(connect(fd, Generic(address), length));
    const Fd second(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    result += " " + Result(connect(second, Generic(address), length));
    const Fd third(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0));
    return result + " full " + Result(connect(third, Generic(address), length));
  } END);
  CASE("unix stream, queue full, accepted later") {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string name = "oakum-fidelity-q-" + std::to_string(getpid());
    memcpy(address.sun_path + 1, name.data(), name.size());
    const auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
    const Fd listener(socket(AF_UNIX, SOCK_STREAM, 0));
    bind(listener, Generic(address), length);
    listen(listener, 0);
    const Fd first(socket(AF_UNIX, SOCK_STREAM, 0));
    connect(first, Generic(address), length);
    std::thread acceptor([&] {
      usleep(300'000);
      const Fd a(accept(listener, nullptr, nullptr));
    });
    const Fd second(socket(AF_UNIX, SOCK_STREAM, 0));
    std::string result = Result(connect(second, Generic(address), length));
    acceptor.join();
    return result;
  } END);
  CASE("unix datagram sendto a path") {
    const std::string path = "/tmp/oakum-fidelity-dgram-" + std::to_string(getpid());
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    strcpy(address.sun_path, path.c_str());
    const Fd server(socket(AF_UNIX, SOCK_DGRAM, 0));
    bind(server, Generic(address), sizeof address);
    const Fd fd(socket(AF_UNIX, SOCK_DGRAM, 0));
    std::string result = Result(sendto(fd, "dgram", 5, 0, Generic(address), sizeof address));
    result += " " + Received(server);
    unlink(path.c_str());
    return result + " " + Result(sendto(fd, "dgram", 5, 0, Generic(address), sizeof address));
  } END);
  CASE("unix socketpair sendmsg with descriptors and credentials") {
    int pair[2] = {-1, -1};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    const Fd left(pair[0]);
    const Fd right(pair[1]);
    const int on = 1;
    setsockopt(right, SOL_SOCKET, SO_PASSCRED, &on, sizeof on);
    int pipes[2] = {-1, -1};
    if (pipe(pipes) != 0) {
      return "pipe";
    }
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    iovec piece = {const_cast<char*>("fd"), 2};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &pipes[1], sizeof(int));
    std::string result = Result(sendmsg(left, &message, 0));
    alignas(cmsghdr) char received[256] = {};
    char data[8] = {};
    iovec into = {data, sizeof data};
    msghdr incoming = {};
    incoming.msg_iov = &into;
    incoming.msg_iovlen = 1;
    incoming.msg_control = received;
    incoming.msg_controllen = sizeof received;
    result +=
        " " + Result(recvmsg(right, &incoming, 0)) + " flags " + std::to_string(incoming.msg_flags);
    for (cmsghdr* at = CMSG_FIRSTHDR(&incoming); at != nullptr; at = CMSG_NXTHDR(&incoming, at)) {
      if (at->cmsg_type == SCM_RIGHTS) {
        int passed = -1;
        memcpy(&passed, CMSG_DATA(at), sizeof passed);
        result += " wrote " + Result(write(passed, "through", 7));
        char buffer[8] = {};
        result += " read " + Result(read(pipes[0], buffer, sizeof buffer));
        close(passed);
      } else if (at->cmsg_type == SCM_CREDENTIALS) {
        ucred credentials = {};
        memcpy(&credentials, CMSG_DATA(at), sizeof credentials);
        result += credentials.pid == getpid() ? " pid right" : " pid wrong";
        result += " uid " + std::to_string(credentials.uid);
      }
    }
    close(pipes[0]);
    close(pipes[1]);
    return result;
  } END);
  CASE("unix socketpair sendmsg of a bad descriptor") {
    int pair[2] = {-1, -1};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    const Fd left(pair[0]);
    const Fd right(pair[1]);
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    iovec piece = {const_cast<char*>("fd"), 2};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int bad = 777;
    memcpy(CMSG_DATA(header), &bad, sizeof bad);
    std::string result = Result(sendmsg(left, &message, 0));
    header->cmsg_len = 3;
    return result + " " + Result(sendmsg(left, &message, 0));
  } END);
  CASE("unix socketpair sendmsg to a closed peer") {
    int pair[2] = {-1, -1};
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    close(pair[1]);
    const Fd left(pair[0]);
    iovec piece = {const_cast<char*>("fd"), 2};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    return Result(sendmsg(left, &message, MSG_NOSIGNAL));
  } END);
  CASE("netlink route dump") {
    const Fd fd(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
    struct {
      nlmsghdr header;
      rtgenmsg body;
    } request = {};
    request.header.nlmsg_len = NLMSG_LENGTH(sizeof request.body);
    request.header.nlmsg_type = RTM_GETLINK;
    request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
    sockaddr_nl kernel = {};
    kernel.nl_family = AF_NETLINK;
    std::string result =
        Result(sendto(fd, &request, request.header.nlmsg_len, 0, Generic(kernel), sizeof kernel));
    char buffer[16384];
    const ssize_t got = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    nlmsghdr first = {};
    memcpy(&first, buffer, sizeof first);
    return result + (got > 0 && first.nlmsg_type == RTM_NEWLINK ? " links" : " nothing");
  } END);
}

}  // namespace oakum::fidelity
