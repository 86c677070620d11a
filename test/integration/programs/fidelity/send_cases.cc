// sendto(2), sendmsg(2), sendmmsg(2).
#include <sys/mman.h>

#include <array>

#include "support.h"

namespace oakum::fidelity {

namespace {

constexpr size_t kMany = 100;
constexpr size_t kPage = 4096;

// sendmmsg(2) of kMany messages that all look different, from memory that `change` can do something
// to first. Its headers begin 20 before the end of a page. Says the result, every length, and how
// much has come.
class Many {
 public:
  Many() : server_(Bound(AF_INET, SOCK_DGRAM, port_)), fd_(Udp()) {
    const int room = 1 << 20;
    setsockopt(server_, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    headers = reinterpret_cast<mmsghdr*>(headers_ + kPage - 20 * sizeof(mmsghdr));
    for (size_t i = 0; i < kMany; ++i) {
      const std::string text = "message " + std::to_string(i * i);
      names[i] = Loopback(port_);
      char* const data = payloads_ + 50 * i;
      memcpy(data, text.data(), text.size());
      // In one piece, in two, in three of which one has nothing.
      const size_t parts = i % 3 + 1;
      pieces[i][0] = {data, parts == 1 ? text.size() : 4};
      pieces[i][1] = {data + 4, parts == 2 ? text.size() - 4 : 0};
      pieces[i][2] = {data + 4, text.size() - 4};
      msghdr& header = headers[i].msg_hdr;
      header.msg_name = &names[i];
      header.msg_namelen = sizeof names[i];
      header.msg_iov = pieces[i].data();
      header.msg_iovlen = parts;
      headers[i].msg_len = static_cast<unsigned>(1000 + i);
    }
  }
  ~Many() {
    munmap(headers_, 3 * kPage);
    munmap(payloads_, 3 * kPage);
  }
  Many(const Many&) = delete;
  Many& operator=(const Many&) = delete;

  std::string Send(int flags = 0) {
    std::string result = Result(sendmmsg(fd_, headers, kMany, flags)) + ":";
    for (size_t i = 0; i < kMany; ++i) {
      result += " " + std::to_string(headers[i].msg_len);
    }
    result += " came:";
    char text[65536];
    ssize_t got = 0;
    int quiet = 0;
    while ((got = recv(server_, text, sizeof text, MSG_DONTWAIT)) >= 0 || quiet++ < 2) {
      result += got >= 0 ? " " + std::string(text, std::min<size_t>(30, static_cast<size_t>(got)))
                         : std::string();
    }
    return result;
  }
  [[nodiscard]] char* page(size_t number) const { return headers_ + number * kPage; }
  [[nodiscard]] char* payload_page(size_t number) const { return payloads_ + number * kPage; }
  [[nodiscard]] int fd() const { return fd_; }

  mmsghdr* headers;
  std::array<sockaddr_in, kMany> names = {};
  std::array<std::array<iovec, 3>, kMany> pieces = {};

 private:
  static char* Pages() {
    return static_cast<char*>(
        mmap(nullptr, 3 * kPage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  }

  uint16_t port_ = 0;
  const Fd server_;
  const Fd fd_;
  char* const headers_ = Pages();
  char* const payloads_ = Pages();
};

}  // namespace

void AddSendCases(std::vector<Case>& cases) {
  CASE("udp sendmmsg of many") {
    Many many;
    return many.Send() + " again " + many.Send(MSG_DONTWAIT);
  } END);
  CASE("udp sendmmsg of many, some of them special") {
    Many many;
    many.names[5].sin_family = AF_UNSPEC;
    many.headers[17].msg_hdr.msg_iovlen = 0;
    many.headers[30].msg_hdr.msg_namelen = 1000;
    many.headers[31].msg_hdr.msg_flags = MSG_EOR | MSG_OOB;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    auto* const record = reinterpret_cast<cmsghdr*>(control);
    const int ttl = 9;
    *record = {CMSG_LEN(sizeof ttl), IPPROTO_IP, IP_TTL};
    memcpy(CMSG_DATA(record), &ttl, sizeof ttl);
    many.headers[40].msg_hdr.msg_control = control;
    many.headers[40].msg_hdr.msg_controllen = sizeof control;
    inet_pton(AF_INET, "0.0.0.0", &many.names[50].sin_addr);
    return many.Send();
  } END);
  CASE("udp sendmmsg of many, one of them bad") {
    std::string result;
    const std::vector<char> large(65'508, 'x');
    for (const size_t bad : {size_t{0}, size_t{1}, size_t{7}, kMany - 1}) {
      for (int way = 0; way < 7; ++way) {
        Many many;
        msghdr& header = many.headers[bad].msg_hdr;
        switch (way) {
          case 0:
            header.msg_name = reinterpret_cast<void*>(16);
            break;
          case 1:
            header.msg_iov = reinterpret_cast<iovec*>(16);
            break;
          case 2:
            many.pieces[bad][0].iov_base = reinterpret_cast<void*>(16);
            break;
          case 3:
            many.pieces[bad][0].iov_len = SIZE_MAX;
            break;
          case 4:
            header.msg_namelen = static_cast<socklen_t>(-1);
            break;
          case 5:
            many.names[bad].sin_port = 0;
            break;
          default:
            many.pieces[bad] = {{{const_cast<char*>(large.data()), large.size()}, {}, {}}};
        }
        result += std::to_string(bad) + " " + std::to_string(way) + ": " + many.Send() + "; ";
      }
    }
    return result;
  } END);
  CASE("udp sendmmsg of many, headers that can only be read") {
    Many many;
    std::string result;
    mprotect(many.page(1), kPage, PROT_READ);
    result += many.Send();
    mprotect(many.page(0), kPage, PROT_READ);
    return result + "; all of them " + many.Send();
  } END);
  CASE("udp sendmmsg of many, headers and payload that end") {
    Many many;
    mprotect(many.payload_page(1), kPage, PROT_NONE);
    std::string result = many.Send();
    munmap(many.page(1), kPage);
    // Not Send(), which looks at all of them.
    return result + " " + Result(sendmmsg(many.fd(), many.headers, kMany, 0));
  } END);
  CASE("udp sendto") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    const sockaddr_in address = Loopback(port);
    std::string result = Result(sendto(fd, "hello", 5, 0, Generic(address), sizeof address));
    Readable(server);
    return result + " " + Received(server);
  } END);
  CASE("udp sendto, nothing") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    const sockaddr_in address = Loopback(port);
    std::string result = Result(sendto(fd, nullptr, 0, 0, Generic(address), sizeof address));
    result += " readable " + std::to_string(Readable(server));
    return result + " \"" + Received(server) + "\"";
  } END);
  CASE("udp sendto sizes") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    const sockaddr_in address = Loopback(port);
    const std::vector<char> data(70'000, 'x');
    std::string result;
    for (const size_t size :
         {size_t{65'507}, size_t{65'508}, size_t{65'535}, size_t{65'536}, size_t{70'000}}) {
      result += Result(sendto(fd, data.data(), size, 0, Generic(address), sizeof address)) + " ";
    }
    return result + Result(syscall(SYS_sendto, static_cast<int>(fd), data.data(), SIZE_MAX / 4, 0,
                                   &address, sizeof address));
  } END);
  CASE("sendto bad arguments") {
    const Fd fd(Udp());
    const Fd file(open("/dev/null", O_RDWR));
    const sockaddr_in address = Loopback(9);
    const auto call = [&](int socket_fd, const void* data, size_t size, const void* to,
                          int length) {
      return Result(syscall(SYS_sendto, socket_fd, data, size, 0, to, length)) + " ";
    };
    std::string result = call(-1, "x", 1, &address, sizeof address);
    result += call(file, "x", 1, &address, sizeof address);
    result += call(fd, reinterpret_cast<void*>(16), 5, &address, sizeof address);
    result += call(fd, "x", 1, reinterpret_cast<void*>(16), sizeof address);
    result += call(fd, "x", 1, &address, -1);
    result += call(fd, "x", 1, &address, 129);
    result += call(fd, "x", 1, &address, 0);
    result += call(fd, "x", 1, &address, 8);
    result += call(fd, "x", 1, nullptr, 0);
    sockaddr_in odd = address;
    odd.sin_family = AF_APPLETALK;
    result += call(fd, "x", 1, &odd, sizeof odd);
    odd = address;
    odd.sin_port = 0;
    return result + call(fd, "x", 1, &odd, sizeof odd);
  } END);
  CASE("udp sendto with AF_UNSPEC") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    sockaddr_in address = Loopback(port);
    address.sin_family = AF_UNSPEC;
    std::string result = Result(sendto(fd, "u", 1, 0, Generic(address), sizeof address));
    Readable(server);
    return result + " " + Received(server);
  } END);
  CASE("udp6 sendto a sockaddr_in") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(socket(AF_INET6, SOCK_DGRAM, 0));
    const sockaddr_in address = Loopback(port);
    std::string result = Result(sendto(fd, "6", 1, 0, Generic(address), sizeof address));
    Readable(server);
    return result + " " + Received(server);
  } END);
  CASE("udp6 sendto ::") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET6, SOCK_DGRAM, port));
    const Fd fd(socket(AF_INET6, SOCK_DGRAM, 0));
    sockaddr_in6 address = Loopback6(port);
    address.sin6_addr = in6addr_any;
    std::string result = Result(sendto(fd, "6", 1, 0, Generic(address), sizeof address));
    Readable(server);
    return result + " " + Received(server);
  } END);
  CASE("connected udp sendto elsewhere") {
    uint16_t one = 0;
    uint16_t two = 0;
    const Fd first(Bound(AF_INET, SOCK_DGRAM, one));
    const Fd second(Bound(AF_INET, SOCK_DGRAM, two));
    const Fd fd(Udp());
    ConnectTo(fd, one);
    const sockaddr_in address = Loopback(two);
    std::string result = Result(sendto(fd, "e", 1, 0, Generic(address), sizeof address));
    Readable(second);
    result += " " + Received(second);
    return result + " " + Received(first);
  } END);
  CASE("tcp sendto with an address") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    const Fd peer(accept(listener, nullptr, nullptr));
    const sockaddr_in address = Loopback(9);
    std::string result = Result(sendto(fd, "data", 4, 0, Generic(address), sizeof address));
    Readable(peer);
    return result + " " + Received(peer);
  } END);
  CASE("tcp sendto unconnected, MSG_NOSIGNAL") {
    const Fd fd(Tcp());
    const sockaddr_in address = Loopback(9);
    return Result(sendto(fd, "data", 4, MSG_NOSIGNAL, Generic(address), sizeof address));
  } END);
  CASE("tcp sendto unconnected raises SIGPIPE") {
    struct sigaction action = {};
    action.sa_handler = OnSignal;
    sigaction(SIGPIPE, &action, nullptr);
    g_signals = 0;
    const Fd fd(Tcp());
    const sockaddr_in address = Loopback(9);
    std::string result = Result(sendto(fd, "data", 4, 0, Generic(address), sizeof address));
    usleep(100'000);
    result += " signals " + std::to_string(g_signals);
    signal(SIGPIPE, SIG_DFL);
    return result;
  } END);
  CASE("tcp sendto large, blocking") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    const Fd peer(accept(listener, nullptr, nullptr));
    std::vector<char> data(20'000'000);
    for (size_t i = 0; i < data.size(); ++i) {
      data[i] = static_cast<char>(i * 7 + i / 1000);
    }
    size_t total = 0;
    bool same = true;
    std::thread reader([&] {
      std::vector<char> buffer(300'000);
      for (ssize_t got = 0; (got = recv(peer, buffer.data(), buffer.size(), 0)) > 0;) {
        same = same && memcmp(buffer.data(), data.data() + total, static_cast<size_t>(got)) == 0;
        total += static_cast<size_t>(got);
        usleep(500);
      }
    });
    const sockaddr_in address = Loopback(9);
    std::string result =
        Result(sendto(fd, data.data(), data.size(), 0, Generic(address), sizeof address));
    shutdown(fd, SHUT_WR);
    reader.join();
    return result + " received " + std::to_string(total) + (same ? " same" : " different");
  } END);
  CASE("tcp sendmsg large, blocking, many pieces") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    const Fd peer(accept(listener, nullptr, nullptr));
    std::vector<char> data(5'000'000);
    for (size_t i = 0; i < data.size(); ++i) {
      data[i] = static_cast<char>(i * 3 + i / 777);
    }
    std::vector<iovec> pieces;
    for (size_t at = 0; at < data.size(); at += 5'000) {
      pieces.push_back({data.data() + at, 5'000});
    }
    size_t total = 0;
    bool same = true;
    std::thread reader([&] {
      std::vector<char> buffer(100'000);
      for (ssize_t got = 0; (got = recv(peer, buffer.data(), buffer.size(), 0)) > 0;) {
        same = same && memcmp(buffer.data(), data.data() + total, static_cast<size_t>(got)) == 0;
        total += static_cast<size_t>(got);
      }
    });
    msghdr message = {};
    message.msg_iov = pieces.data();
    message.msg_iovlen = pieces.size();
    std::string result = Result(sendmsg(fd, &message, 0));
    shutdown(fd, SHUT_WR);
    reader.join();
    return result + " received " + std::to_string(total) + (same ? " same" : " different");
  } END);
  CASE("tcp sendmsg non-blocking, buffer full") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    const Fd peer(accept(listener, nullptr, nullptr));
    std::vector<char> data(200'000, 'n');
    iovec piece = {data.data(), data.size()};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    ssize_t last = 0;
    int rounds = 0;
    while ((last = sendmsg(fd, &message, MSG_DONTWAIT)) > 0 && rounds < 1000) {
      ++rounds;
    }
    return Result(last) + (rounds > 0 ? " after some" : " at once");
  } END);
  CASE("tcp sendmsg blocking with SO_SNDTIMEO, buffer full") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    const Fd peer(accept(listener, nullptr, nullptr));
    std::vector<char> data(200'000, 'n');
    while (send(fd, data.data(), data.size(), MSG_DONTWAIT) > 0) {
    }
    SetTimeout(fd, SO_SNDTIMEO, 400);
    iovec piece = {data.data(), data.size()};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    const double start = Now();
    std::string result = Result(sendmsg(fd, &message, 0));
    return result + " " + Class(Now() - start, 0.4);
  } END);
  CASE("tcp sendmsg blocking, buffer full, signal without SA_RESTART") {
    uint16_t port = 0;
    const Fd listener(Listening(port));
    const Fd fd(Tcp());
    ConnectTo(fd, port);
    const Fd peer(accept(listener, nullptr, nullptr));
    std::vector<char> data(200'000, 'n');
    while (send(fd, data.data(), data.size(), MSG_DONTWAIT) > 0) {
    }
    CatchAlarm(0);
    AlarmIn(300);
    iovec piece = {data.data(), data.size()};
    msghdr message = {};
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    const double start = Now();
    std::string result = Result(sendmsg(fd, &message, 0));
    return result + " " + Class(Now() - start, 0.3);
  } END);
  CASE("sendmsg bad arguments") {
    const Fd fd(Udp());
    sockaddr_in address = Loopback(9);
    iovec piece = {const_cast<char*>("x"), 1};
    msghdr good = {};
    good.msg_name = &address;
    good.msg_namelen = sizeof address;
    good.msg_iov = &piece;
    good.msg_iovlen = 1;
    const auto call = [&](const std::function<void(msghdr&)>& change) {
      msghdr message = good;
      change(message);
      return Result(syscall(SYS_sendmsg, static_cast<int>(fd), &message, 0)) + " ";
    };
    std::string result = call([](msghdr&) {});
    result += Result(syscall(SYS_sendmsg, static_cast<int>(fd), 16, 0)) + " ";
    result += Result(syscall(SYS_sendmsg, -1, &good, 0)) + " ";
    result += call([](msghdr& m) { m.msg_name = reinterpret_cast<void*>(16); });
    result += call([](msghdr& m) { m.msg_namelen = static_cast<socklen_t>(-1); });
    result += call([](msghdr& m) { m.msg_namelen = 4; });
    result += call([](msghdr& m) { m.msg_name = nullptr; });
    result += call([](msghdr& m) { m.msg_iov = reinterpret_cast<iovec*>(16); });
    result += call([](msghdr& m) { m.msg_iovlen = 1025; });
    result += call([](msghdr& m) { m.msg_iovlen = 0; });
    iovec negative = {piece.iov_base, static_cast<size_t>(-1)};
    result += call([&](msghdr& m) { m.msg_iov = &negative; });
    iovec nowhere = {reinterpret_cast<void*>(16), 5};
    result += call([&](msghdr& m) { m.msg_iov = &nowhere; });
    result += call([](msghdr& m) {
      m.msg_control = reinterpret_cast<void*>(16);
      m.msg_controllen = 32;
    });
    char control[64] = {};
    result += call([&](msghdr& m) {
      m.msg_control = control;
      m.msg_controllen = sizeof control;
    });
    return result;
  } END);
  CASE("udp sendmsg with IP_PKTINFO") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    sockaddr_in address = Loopback(port);
    iovec piece = {const_cast<char*>("pkt"), 3};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(in_pktinfo))] = {};
    msghdr message = {};
    message.msg_name = &address;
    message.msg_namelen = sizeof address;
    message.msg_iov = &piece;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = IPPROTO_IP;
    header->cmsg_type = IP_PKTINFO;
    header->cmsg_len = CMSG_LEN(sizeof(in_pktinfo));
    in_pktinfo info = {};
    inet_pton(AF_INET, "127.0.0.5", &info.ipi_spec_dst);
    memcpy(CMSG_DATA(header), &info, sizeof info);
    std::string result = Result(sendmsg(fd, &message, 0));
    char buffer[16];
    sockaddr_in from = {};
    socklen_t length = sizeof from;
    Readable(server);
    recvfrom(server, buffer, sizeof buffer, MSG_DONTWAIT, Generic(from), &length);
    char text[INET_ADDRSTRLEN];
    return result + " from " + inet_ntop(AF_INET, &from.sin_addr, text, sizeof text);
  } END);
  CASE("udp sendmmsg") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    sockaddr_in address = Loopback(port);
    iovec pieces[3] = {
        {const_cast<char*>("one"), 3}, {const_cast<char*>("three"), 5}, {const_cast<char*>(""), 0}};
    mmsghdr messages[3] = {};
    for (int i = 0; i < 3; ++i) {
      messages[i].msg_hdr.msg_name = &address;
      messages[i].msg_hdr.msg_namelen = sizeof address;
      messages[i].msg_hdr.msg_iov = &pieces[i];
      messages[i].msg_hdr.msg_iovlen = 1;
      messages[i].msg_len = 77;
    }
    std::string result = Result(sendmmsg(fd, messages, 3, 0));
    for (const mmsghdr& message : messages) {
      result += " " + std::to_string(message.msg_len);
    }
    Readable(server);
    result += " " + Received(server);
    return result + " " + Received(server);
  } END);
  CASE("udp sendmmsg, second entry bad") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    sockaddr_in address = Loopback(port);
    iovec piece = {const_cast<char*>("one"), 3};
    mmsghdr messages[3] = {};
    for (auto& message : messages) {
      message.msg_hdr.msg_name = &address;
      message.msg_hdr.msg_namelen = sizeof address;
      message.msg_hdr.msg_iov = &piece;
      message.msg_hdr.msg_iovlen = 1;
      message.msg_len = 77;
    }
    messages[1].msg_hdr.msg_iov = reinterpret_cast<iovec*>(16);
    std::string result = Result(sendmmsg(fd, messages, 3, 0));
    for (const mmsghdr& message : messages) {
      result += " " + std::to_string(message.msg_len);
    }
    messages[0].msg_hdr.msg_iovlen = 2000;
    result += " first bad " + Result(sendmmsg(fd, messages, 3, 0));
    result += " none " + Result(sendmmsg(fd, messages, 0, 0));
    result += " nowhere " + Result(syscall(SYS_sendmmsg, static_cast<int>(fd), 16, 2, 0));
    return result + " bad fd " + Result(sendmmsg(-1, messages, 1, 0));
  } END);
  CASE("udp sendmsg MSG_DONTWAIT keeps the flags of the socket") {
    uint16_t port = 0;
    const Fd server(Bound(AF_INET, SOCK_DGRAM, port));
    const Fd fd(Udp());
    sockaddr_in address = Loopback(port);
    sendto(fd, "x", 1, MSG_DONTWAIT, Generic(address), sizeof address);
    return std::to_string(fcntl(fd, F_GETFL)) + " " + std::to_string(fcntl(fd, F_GETFD));
  } END);
}

}  // namespace oakum::fidelity
