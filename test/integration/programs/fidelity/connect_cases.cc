// connect(2): blocking and not, refused, interrupted, timed out, with bad arguments.
#include "support.h"

namespace oakum::fidelity {

void AddConnectCases(std::vector<Case>& cases) {
  CASE("tcp connect") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    const std::string result = Result(ConnectTo(fd, port));
    sockaddr_in peer = {};
    socklen_t length = sizeof peer;
    getpeername(fd, Generic(peer), &length);
    return result + " peer " + (ntohs(peer.sin_port) == port ? "right" : "wrong") + " flags " +
           std::to_string(fcntl(fd, F_GETFL));
  } END);
  CASE("tcp connect refused") {
    const Fd fd(Tcp());
    std::string result = Result(ConnectTo(fd, ClosedPort()));
    return result + " then SO_ERROR " + Name(SocketError(fd));
  } END);
  CASE("tcp connect refused, then elsewhere") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    std::string result = Result(ConnectTo(fd, ClosedPort()));
    return result + " " + Result(ConnectTo(fd, port));
  } END);
  CASE("tcp connect twice") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    return Result(ConnectTo(fd, port));
  } END);
  CASE("tcp non-blocking connect") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp(SOCK_NONBLOCK));
    std::string result = Result(ConnectTo(fd, port));
    pollfd ready = {fd, POLLOUT, 0};
    poll(&ready, 1, 1000);
    result += " poll " + std::to_string(ready.revents) + " SO_ERROR " + Name(SocketError(fd));
    result += " again " + Result(ConnectTo(fd, port));
    return result + " and " + Result(ConnectTo(fd, port));
  } END);
  CASE("tcp non-blocking connect refused") {
    const Fd fd(Tcp(SOCK_NONBLOCK));
    std::string result = Result(ConnectTo(fd, ClosedPort()));
    pollfd ready = {fd, POLLOUT, 0};
    poll(&ready, 1, 1000);
    return result + " poll " + std::to_string(ready.revents) + " SO_ERROR " + Name(SocketError(fd));
  } END);
  CASE("tcp non-blocking connect in progress, again") {
    const FullListener full;
    const Fd fd(Tcp(SOCK_NONBLOCK));
    std::string result = Result(ConnectTo(fd, full.port));
    return result + " " + Result(ConnectTo(fd, full.port));
  } END);
  CASE("tcp connect, epoll edges") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp(SOCK_NONBLOCK));
    const Fd epoll(epoll_create1(0));
    epoll_event event = {};
    event.events = EPOLLIN | EPOLLOUT | EPOLLET;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
    epoll_event got = {};
    std::string result = "before " + std::to_string(epoll_wait(epoll, &got, 1, 0));
    ConnectTo(fd, port);
    result += " after " + std::to_string(epoll_wait(epoll, &got, 1, 1000));
    result += " events " + std::to_string(got.events);
    return result + " then " + std::to_string(epoll_wait(epoll, &got, 1, 50));
  } END);
  CASE("tcp connect with SO_SNDTIMEO to nowhere") {
    const FullListener full;
    const Fd fd(Tcp());
    SetTimeout(fd, SO_SNDTIMEO, 500);
    const double start = Now();
    std::string result = Result(ConnectTo(fd, full.port));
    result += " " + Class(Now() - start, 0.5);
    return result + " flags " + std::to_string(fcntl(fd, F_GETFL));
  } END);
  CASE("tcp connect to nowhere, signal without SA_RESTART") {
    const FullListener full;
    const Fd fd(Tcp());
    CatchAlarm(0);
    AlarmIn(300);
    const double start = Now();
    std::string result = Result(ConnectTo(fd, full.port));
    return result + " " + Class(Now() - start, 0.3) + " signals " + std::to_string(g_signals);
  } END);
  CASE("tcp connect with SO_SNDTIMEO to nowhere, signal with SA_RESTART") {
    const FullListener full;
    const Fd fd(Tcp());
    SetTimeout(fd, SO_SNDTIMEO, 2000);
    CatchAlarm(SA_RESTART);
    AlarmIn(300);
    const double start = Now();
    std::string result = Result(ConnectTo(fd, full.port));
    return result + " " + Class(Now() - start, 0.3) + " signals " + std::to_string(g_signals);
  } END);
  CASE("tcp connect, signal with SA_RESTART, then established") {
    FullListener full;
    const Fd fd(Tcp());
    CatchAlarm(SA_RESTART);
    AlarmIn(200);
    std::atomic<bool> done{false};
    std::thread opener([&] {
      usleep(600'000);
      full.Open(done);
    });
    std::string result = Result(ConnectTo(fd, full.port));
    done.store(true);
    result += " signals " + std::to_string(g_signals);
    opener.join();
    return result + " again " + Result(ConnectTo(fd, full.port));
  } END);
  CASE("tcp connect to nowhere, another thread shuts it down") {
    const FullListener full;
    const Fd fd(Tcp());
    std::thread other([&] {
      usleep(200'000);
      shutdown(fd, SHUT_RDWR);
    });
    std::string result = Result(ConnectTo(fd, full.port));
    other.join();
    return result;
  } END);
  CASE("tcp two threads connect one socket") {
    FullListener full;
    const Fd fd(Tcp());
    std::string first;
    std::string second;
    std::thread a([&] { first = Result(ConnectTo(fd, full.port)); });
    usleep(100'000);
    std::thread b([&] { second = Result(ConnectTo(fd, full.port)); });
    usleep(200'000);
    std::atomic<bool> done{false};
    std::thread opener([&] { full.Open(done); });
    a.join();
    b.join();
    done.store(true);
    opener.join();
    return first + " " + second;
  } END);
  CASE("tcp disconnect by AF_UNSPEC, connect again") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    sockaddr unspec = {};
    unspec.sa_family = AF_UNSPEC;
    std::string result = Result(connect(fd, &unspec, sizeof unspec));
    return result + " " + Result(ConnectTo(fd, port));
  } END);
  CASE("tcp connect to 0.0.0.0") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    sockaddr_in any = Loopback(port);
    any.sin_addr.s_addr = 0;
    return Result(connect(fd, Generic(any), sizeof any));
  } END);
  CASE("tcp6 connect") {
    uint16_t port = 0;
    const Fd listener(Listening(port, 16, AF_INET6));
    const Fd fd(socket(AF_INET6, SOCK_STREAM, 0));
    const sockaddr_in6 address = Loopback6(port);
    return Result(connect(fd, Generic(address), sizeof address));
  } END);
  CASE("tcp6 connect to a mapped address") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(socket(AF_INET6, SOCK_STREAM, 0));
    sockaddr_in6 address = Loopback6(port);
    inet_pton(AF_INET6, "::ffff:127.0.0.1", &address.sin6_addr);
    return Result(connect(fd, Generic(address), sizeof address));
  } END);
  CASE("tcp6 connect with a sockaddr_in") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(socket(AF_INET6, SOCK_STREAM, 0));
    return Result(ConnectTo(fd, port));
  } END);
  CASE("tcp connect with a sockaddr_in6") {
    const Fd fd(Tcp());
    const sockaddr_in6 address = Loopback6(9);
    return Result(connect(fd, Generic(address), sizeof address));
  } END);
  CASE("connect bad arguments") {
    const Fd fd(Tcp());
    const Fd pipe_like(open("/dev/null", O_RDWR));
    const sockaddr_in address = Loopback(9);
    std::string result = Result(syscall(SYS_connect, -1, &address, sizeof address));
    result +=
        " " + Result(syscall(SYS_connect, static_cast<int>(pipe_like), &address, sizeof address));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), nullptr, sizeof address));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), 16, sizeof address));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), &address, -1));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), &address, 129));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), &address, 0));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), &address, 1));
    result += " " + Result(syscall(SYS_connect, static_cast<int>(fd), &address, 8));
    result += " " + Result(syscall(SYS_connect, 9999, nullptr, -1));
    return result;
  } END);
  CASE("connect, address at the end of a page") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    char* pages = static_cast<char*>(
        mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    munmap(pages + page, page);
    const sockaddr_in address = Loopback(port);
    char* place = pages + page - sizeof address;
    memcpy(place, &address, sizeof address);
    const Fd fd(Tcp());
    std::string result = Result(syscall(SYS_connect, static_cast<int>(fd), place, sizeof address));
    const Fd other(Tcp());
    result += " " + Result(syscall(SYS_connect, static_cast<int>(other), place, 28));
    munmap(pages, page);
    return result;
  } END);
  CASE("udp connect, send, disconnect") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    std::string result = Result(ConnectTo(fd, port));
    result += " " + Result(send(fd, "hello", 5, 0));
    Readable(server);
    result += " " + Received(server);
    sockaddr unspec = {};
    result += " " + Result(connect(fd, &unspec, sizeof unspec));
    return result + " " + Result(send(fd, "hello", 5, 0));
  } END);
  CASE("udp connect to a closed port, ECONNREFUSED later") {
    uint16_t port = 0;
    close(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    std::string result = Result(ConnectTo(fd, port));
    result += " " + Result(send(fd, "x", 1, 0));
    usleep(50'000);
    return result + " " + Result(send(fd, "x", 1, 0));
  } END);
  CASE("udp connect to broadcast without SO_BROADCAST") {
    const Fd fd(Udp());
    sockaddr_in address = Loopback(9);
    inet_pton(AF_INET, "127.255.255.255", &address.sin_addr);
    return Result(connect(fd, Generic(address), sizeof address));
  } END);
}

}  // namespace oakum::fidelity
