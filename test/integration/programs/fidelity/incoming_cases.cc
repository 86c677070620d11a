// bind(2), listen(2), accept(2), and processes that call from children.
#include <sys/resource.h>
#include <sys/stat.h>

#include <memory>

#include "support.h"

namespace oakum::fidelity {

void AddIncomingCases(std::vector<Case>& cases) {
  CASE("bind, listen, accept") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    sockaddr_in peer = {};
    socklen_t length = sizeof peer;
    const Fd accepted(accept4(listener, Generic(peer), &length, SOCK_NONBLOCK | SOCK_CLOEXEC));
    sockaddr_in own = {};
    socklen_t own_length = sizeof own;
    getsockname(fd, Generic(own), &own_length);
    return std::string(accepted >= 0 ? "accepted" : strerrorname_np(errno)) + " length " +
           std::to_string(length) + " peer " + (peer.sin_port == own.sin_port ? "right" : "wrong") +
           " flags " + std::to_string(fcntl(accepted, F_GETFL)) + " " +
           std::to_string(fcntl(accepted, F_GETFD));
  } END);
  CASE("accept plain flags, short address") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    char peer[4] = {};
    socklen_t length = sizeof peer;
    const Fd accepted(accept(listener, reinterpret_cast<sockaddr*>(peer), &length));
    return "length " + std::to_string(length) + " flags " +
           std::to_string(fcntl(accepted, F_GETFL)) + " " +
           std::to_string(fcntl(accepted, F_GETFD));
  } END);
  CASE("accept non-blocking, nobody") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    fcntl(listener, F_SETFL, O_NONBLOCK);
    return Result(accept(listener, nullptr, nullptr));
  } END);
  CASE("accept blocking, later") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    std::thread client([port] {
      usleep(200'000);
      const Fd fd(Tcp());
      ConnectTo(fd, port);
      usleep(50'000);
    });
    const Fd accepted(accept(listener, nullptr, nullptr));
    client.join();
    return accepted >= 0 ? "accepted" : strerrorname_np(errno);
  } END);
  CASE("accept with SO_RCVTIMEO") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    SetTimeout(listener, SO_RCVTIMEO, 300);
    const double start = Now();
    std::string result = Result(accept(listener, nullptr, nullptr));
    return result + " " + Class(Now() - start, 0.3);
  } END);
  CASE("accept with SO_RCVTIMEO, signal with SA_RESTART") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    SetTimeout(listener, SO_RCVTIMEO, 2000);
    CatchAlarm(SA_RESTART);
    AlarmIn(200);
    return Result(accept(listener, nullptr, nullptr));
  } END);
  CASE("accept, signal without SA_RESTART") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    CatchAlarm(0);
    AlarmIn(200);
    return Result(accept(listener, nullptr, nullptr));
  } END);
  CASE("accept, signal with SA_RESTART, then a client") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    CatchAlarm(SA_RESTART);
    AlarmIn(150);
    std::thread client([port] {
      usleep(500'000);
      const Fd fd(Tcp());
      ConnectTo(fd, port);
      usleep(50'000);
    });
    const Fd accepted(accept(listener, nullptr, nullptr));
    client.join();
    return std::string(accepted >= 0 ? "accepted" : strerrorname_np(errno)) + " signals " +
           std::to_string(g_signals);
  } END);
  CASE("accept bad arguments") {
    const Fd fd(Tcp());
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd udp(Udp());
    std::string result = Result(accept(-1, nullptr, nullptr));
    result += " " + Result(accept(fd, nullptr, nullptr));
    result += " " + Result(accept4(listener, nullptr, nullptr, 0x12345));
    result += " " + Result(accept(udp, nullptr, nullptr));
    ConnectTo(fd, port);
    char room[64];
    result += " " + Result(syscall(SYS_accept, static_cast<int>(listener), room, 16));
    const Fd other(Tcp());
    ConnectTo(other, port);
    int negative = -5;
    return result + " " + Result(syscall(SYS_accept, static_cast<int>(listener), room, &negative));
  } END);
  CASE("bind bad arguments") {
    const Fd fd(Tcp());
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const sockaddr_in taken = Loopback(port);
    sockaddr_in foreign = Loopback(0);
    inet_pton(AF_INET, "192.0.2.1", &foreign.sin_addr);
    std::string result = Result(bind(fd, Generic(taken), sizeof taken));
    result += " " + Result(bind(fd, Generic(foreign), sizeof foreign));
    result += " " + Result(bind(fd, Generic(taken), 4));
    result += " " + Result(bind(-1, Generic(taken), sizeof taken));
    result += " " + Result(syscall(SYS_bind, static_cast<int>(fd), 16, sizeof taken));
    const sockaddr_in free_port = Loopback(0);
    result += " " + Result(bind(fd, Generic(free_port), sizeof free_port));
    return result + " " + Result(bind(fd, Generic(free_port), sizeof free_port));
  } END);
  CASE("bind an unspecified family") {
    const Fd fd(Tcp());
    sockaddr_in any = {};
    std::string result = Result(bind(fd, Generic(any), sizeof any));
    const Fd other(Tcp());
    sockaddr_in loopback = Loopback(0);
    loopback.sin_family = AF_UNSPEC;
    return result + " " + Result(bind(other, Generic(loopback), sizeof loopback));
  } END);
  CASE("listen twice and on a datagram socket") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd udp(Udp());
    std::string result = Result(listen(listener, 3));
    result += " " + Result(listen(udp, 3));
    return result + " " + Result(listen(-1, 3));
  } END);
  CASE("listen without bind") {
    const Fd fd(Tcp());
    std::string result = Result(listen(fd, 3));
    sockaddr_in own = {};
    socklen_t length = sizeof own;
    getsockname(fd, Generic(own), &length);
    return result + (own.sin_port != 0 ? " port" : " no port");
  } END);
  CASE("listen without bind, port put off") {
    const Fd fd(Tcp());
    const sockaddr_in any = Loopback(0);
    const int one = 1;
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    std::string result = Result(bind(fd, Generic(any), sizeof any));
    sockaddr_in own = {};
    socklen_t length = sizeof own;
    getsockname(fd, Generic(own), &length);
    result += own.sin_port != 0 ? " port " : " no port ";
    result += Result(listen(fd, 3));
    getsockname(fd, Generic(own), &length);
    const Fd client(Tcp());
    return result + (own.sin_port != 0 ? " port " : " no port ") +
           (own.sin_addr.s_addr == any.sin_addr.s_addr ? "address " : "no address ") +
           Result(ConnectTo(client, ntohs(own.sin_port)));
  } END);
  CASE("shutdown and accept") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    std::thread other([&listener] {
      usleep(200'000);
      shutdown(listener, SHUT_RD);
    });
    std::string result = Result(accept(listener, nullptr, nullptr));
    other.join();
    return result + " " + Result(accept(listener, nullptr, nullptr));
  } END);
  CASE("close of the listener's number while accept waits") {
    uint16_t port = 0;
    const int listener = Listening(port);
    std::thread other([listener, port] {
      usleep(200'000);
      close(listener);
      usleep(100'000);
      const Fd fd(Tcp());
      ConnectTo(fd, port);
      usleep(100'000);
    });
    const Fd accepted(accept(listener, nullptr, nullptr));
    other.join();
    return accepted >= 0 ? "accepted" : strerrorname_np(errno);
  } END);
  CASE("accept of a peer that has reset") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    {
      const Fd fd(Tcp());
      const linger reset = {1, 0};
      setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      ConnectTo(fd, port);
    }
    usleep(20'000);
    fcntl(listener, F_SETFL, O_NONBLOCK);
    sockaddr_in peer = {};
    socklen_t length = sizeof peer;
    const Fd accepted(accept(listener, Generic(peer), &length));
    return (accepted >= 0 ? "accepted" : strerrorname_np(errno)) + std::string(" family ") +
           std::to_string(peer.sin_family) + " length " + std::to_string(length) + " " +
           Received(accepted);
  } END);
  CASE("accept with no descriptor left, then with one") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd client(Tcp());
    ConnectTo(client, port);
    rlimit before = {};
    getrlimit(RLIMIT_NOFILE, &before);
    const Fd highest(dup(listener));
    const rlimit none = {static_cast<rlim_t>(highest) + 1, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    std::string result;
    for (int i = 0; i < 2; ++i) {
      result += Result(accept(listener, nullptr, nullptr)) + " ";
    }
    setrlimit(RLIMIT_NOFILE, &before);
    const Fd accepted(accept(listener, nullptr, nullptr));
    return result + (accepted >= 0 ? "accepted" : strerrorname_np(errno));
  } END);
  CASE("who owns an accepted socket") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd client(Tcp());
    ConnectTo(client, port);
    const Fd accepted(accept(listener, nullptr, nullptr));
    struct stat status = {};
    fstat(accepted, &status);
    return status.st_uid == geteuid() ? "the caller" : "user " + std::to_string(status.st_uid);
  } END);
  CASE("accept of an IPv4 peer on an IPv6 listener") {
    const Fd listener(socket(AF_INET6, SOCK_STREAM, 0));
    sockaddr_in6 any = {};
    any.sin6_family = AF_INET6;
    socklen_t length = sizeof any;
    bind(listener, Generic(any), sizeof any);
    listen(listener, 4);
    getsockname(listener, Generic(any), &length);
    const Fd client(Tcp());
    ConnectTo(client, ntohs(any.sin6_port));
    sockaddr_in6 peer = {};
    length = sizeof peer;
    const Fd accepted(accept(listener, Generic(peer), &length));
    char text[INET6_ADDRSTRLEN] = {};
    inet_ntop(AF_INET6, &peer.sin6_addr, text, sizeof text);
    return std::string(text) + " length " + std::to_string(length);
  } END);
  CASE("accept on unix sockets") {
    std::string result;
    for (const int type : {SOCK_STREAM, SOCK_SEQPACKET}) {
      const Fd listener(socket(AF_UNIX, type, 0));
      sockaddr_un address = {};
      address.sun_family = AF_UNIX;  // autobind (unix(7))
      socklen_t length = sizeof(sa_family_t);
      result += Result(bind(listener, Generic(address), length)) + " ";
      result += Result(listen(listener, 4)) + " ";
      length = sizeof address;
      getsockname(listener, Generic(address), &length);
      const Fd client(socket(AF_UNIX, type, 0));
      result += Result(connect(client, Generic(address), length)) + " ";
      sockaddr_un peer = {};
      socklen_t peer_length = sizeof peer;
      const Fd accepted(accept4(listener, Generic(peer), &peer_length, SOCK_NONBLOCK));
      result += "length " + std::to_string(peer_length) + " family " +
                std::to_string(peer.sun_family) + " flags " +
                std::to_string(fcntl(accepted, F_GETFL)) + " ";
      send(client, "x", 1, 0);
      result += Received(accepted) + " ";
    }
    return result;
  } END);
  CASE("eight threads in accept") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    std::atomic<int> accepted{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back([&] {
        const Fd fd(accept(listener, nullptr, nullptr));
        accepted += fd >= 0 ? 1 : 0;
      });
    }
    usleep(100'000);
    std::vector<std::unique_ptr<Fd>> clients;
    for (int i = 0; i < 8; ++i) {
      clients.push_back(std::make_unique<Fd>(Tcp()));
      ConnectTo(*clients.back(), port);
    }
    for (std::thread& thread : threads) {
      thread.join();
    }
    return std::to_string(accepted.load());
  } END);
  CASE("epoll edges of a listener") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    fcntl(listener, F_SETFL, O_NONBLOCK);
    const Fd epoll(epoll_create1(0));
    epoll_event event = {};
    event.events = EPOLLIN | EPOLLET;
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    std::string result;
    for (int round = 0; round < 2; ++round) {
      const Fd first(Tcp());
      const Fd second(Tcp());
      ConnectTo(first, port);
      ConnectTo(second, port);
      result += std::to_string(epoll_wait(epoll, &event, 1, 1000)) + " ";
      const Fd one(accept(listener, nullptr, nullptr));
      result += std::to_string(epoll_wait(epoll, &event, 1, 0)) + " ";
      const Fd two(accept(listener, nullptr, nullptr));
      result += one >= 0 && two >= 0 ? "both " : "not both ";
      result += Result(accept(listener, nullptr, nullptr)) + " ";
    }
    return result;
  } END);
  CASE("bind of a port for the privileged") {
    std::string result;
    for (const int domain : {AF_INET, AF_INET6}) {
      const Fd fd(socket(domain, SOCK_STREAM, 0));
      if (domain == AF_INET) {
        const sockaddr_in address = Loopback(911);
        result += Result(bind(fd, Generic(address), sizeof address)) + " ";
      } else {
        const sockaddr_in6 address = Loopback6(912);
        result += Result(bind(fd, Generic(address), sizeof address)) + " ";
      }
    }
    return result;
  } END);
  CASE("bind of a unix path") {
    const Fd fd(socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    const std::string name = "/tmp/fidelity-" + std::to_string(getpid());
    strcpy(address.sun_path, name.c_str());
    const mode_t old_mask = umask(027);
    std::string result = Result(bind(fd, Generic(address), sizeof address));
    umask(old_mask);
    struct stat status = {};
    result += " " + Result(stat(name.c_str(), &status));
    result += " mode " + std::to_string(status.st_mode);
    result += status.st_uid == geteuid() && status.st_gid == getegid() ? " own " : " not own ";
    const Fd other(socket(AF_UNIX, SOCK_STREAM, 0));
    result += Result(bind(other, Generic(address), sizeof address)) + " ";
    sockaddr_un own = {};
    socklen_t length = sizeof own;
    getsockname(fd, Generic(own), &length);
    result += name == own.sun_path ? "name " : "no name ";
    unlink(name.c_str());
    strcpy(address.sun_path, "/nowhere/at/all");
    result += Result(bind(other, Generic(address), sizeof address)) + " ";
    strcpy(address.sun_path, "/proc/x");
    return result + Result(bind(other, Generic(address), sizeof address));
  } END);
  CASE("vfork child and exec'd child connect") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    std::string result;
    const pid_t child = fork();
    if (child == 0) {
      const Fd fd(Tcp());
      _exit(ConnectTo(fd, port) == 0 ? 0 : 1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return "child " + std::to_string(WEXITSTATUS(status));
  } END);
  CASE("socket kinds") {
    std::string result;
    for (const int domain : {AF_UNIX, AF_INET, AF_INET6}) {
      for (const int type :
           {int{SOCK_STREAM}, int{SOCK_DGRAM}, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC}) {
        const Fd fd(socket(domain, type, 0));
        result += (fd >= 0 ? "ok" : strerrorname_np(errno)) + std::string(" ");
      }
    }
    return result;
  } END);
}

}  // namespace oakum::fidelity
