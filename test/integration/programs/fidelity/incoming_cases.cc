// bind(2), listen(2), accept(2), and processes that call from children.
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
