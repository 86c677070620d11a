#include "agent/proxy/pump.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "agent/proxy/tls_stream.h"

namespace oakum::agent {
namespace {

enum class Kind : uint8_t { kTcp, kUnix };

std::pair<UniqueFd, UniqueFd> Connected(Kind kind) {
  std::array<int, 2> fds{-1, -1};
  if (kind == Kind::kUnix) {
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()), 0);
    return {UniqueFd(fds[0]), UniqueFd(fds[1])};
  }
  const UniqueFd listener(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* const name = reinterpret_cast<sockaddr*>(&address);
  EXPECT_EQ(bind(listener.get(), name, length), 0);
  EXPECT_EQ(listen(listener.get(), 1), 0);
  EXPECT_EQ(getsockname(listener.get(), name, &length), 0);
  UniqueFd client(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(connect(client.get(), name, length), 0);
  UniqueFd server(accept4(listener.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  EXPECT_EQ(fcntl(client.get(), F_SETFL, O_NONBLOCK), 0);
  return {std::move(client), std::move(server)};
}

std::string Bytes(size_t size) {
  std::string out(size, '\0');
  for (size_t i = 0; i < size; ++i) {
    out[i] = static_cast<char>((i * 2654435761U) >> 16);
  }
  return out;
}

// Each kind of socket on each side: a proxy can be at a unix socket.
class PumpTest : public testing::TestWithParam<std::pair<Kind, Kind>> {
 protected:
  PumpTest() {
    auto from = Connected(GetParam().first);
    auto to = Connected(GetParam().second);
    source_ = std::move(from.first);
    from_.fd = std::move(from.second);
    to_.fd = std::move(to.first);
    sink_ = std::move(to.second);
  }

  // Sends all of `bytes` in pieces of `piece`, then the end; what arrives until the end.
  std::string Passed(const std::string& bytes, size_t piece, std::string early = {}) {
    const auto pump = Pump::Create(from_, to_, pipes_, std::move(early), {});
    std::string out;
    size_t sent = 0;
    bool shut = false;
    auto status = Pump::Status::kWaiting;
    for (int idle = 0; idle < 1000;) {
      const size_t before = sent + out.size();
      if (sent < bytes.size()) {
        const ssize_t put = send(source_.get(), bytes.data() + sent,
                                 std::min(piece, bytes.size() - sent), MSG_NOSIGNAL);
        sent += put > 0 ? static_cast<size_t>(put) : 0;
      } else if (!std::exchange(shut, true)) {
        EXPECT_EQ(shutdown(source_.get(), SHUT_WR), 0);
      }
      if (status != Pump::Status::kEnded) {
        status = pump->Run();
        EXPECT_NE(status, Pump::Status::kFailed);
        if (status == Pump::Status::kFailed) {
          break;
        }
        EXPECT_TRUE(status != Pump::Status::kWaiting || pump->from_events() != 0 ||
                    pump->to_events() != 0)
            << "waits for nothing";
      }
      std::array<char, 5000> buffer;
      const ssize_t got = recv(sink_.get(), buffer.data(), buffer.size(), 0);
      if (got == 0) {
        break;
      }
      out.append(buffer.data(), got > 0 ? static_cast<size_t>(got) : 0);
      if (sent + out.size() != before) {
        idle = 0;
      } else {
        ++idle;
        pollfd wait = {sink_.get(), POLLIN, 0};
        poll(&wait, 1, 1);
      }
    }
    EXPECT_EQ(status, Pump::Status::kEnded);
    return out;
  }

  UniqueFd source_;
  UniqueFd sink_;
  ProxyStream from_;
  ProxyStream to_;
  PipePool pipes_;
};

INSTANTIATE_TEST_SUITE_P(
    Kinds, PumpTest,
    testing::Values(std::pair(Kind::kTcp, Kind::kTcp), std::pair(Kind::kTcp, Kind::kUnix),
                    std::pair(Kind::kUnix, Kind::kTcp), std::pair(Kind::kUnix, Kind::kUnix)),
    [](const auto& param) {
      const auto name = [](Kind kind) { return std::string(kind == Kind::kTcp ? "Tcp" : "Unix"); };
      return name(param.param.first) + "To" + name(param.param.second);
    });

TEST_P(PumpTest, ALittle) { EXPECT_EQ(Passed("hello", 1), "hello"); }

TEST_P(PumpTest, WhatWasReadBeforeComesFirst) {
  EXPECT_EQ(Passed("hello", 5, "well "), "well hello");
}

TEST_P(PumpTest, MuchThatTheOtherSideTakesSlowly) {
  const std::string bytes = Bytes(size_t{4} << 20);
  EXPECT_EQ(Passed(bytes, size_t{256} << 10), bytes);
}

TEST_P(PumpTest, PiecesAroundWhatIsCopied) {
  const std::string bytes = Bytes(size_t{1} << 20);
  EXPECT_EQ(Passed(bytes, (size_t{16} << 10) + 1), bytes);
}

// A pipe with nothing but the end that somebody has kept, and what that end tells.
Pipe Reopened(const Pipe& pipe) {
  Pipe again;
  again.out.Reset(fcntl(pipe.out.get(), F_DUPFD_CLOEXEC, 0));
  again.in.Reset(open(("/proc/self/fd/" + std::to_string(again.out.get())).c_str(),
                      O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  int bytes = 0;
  EXPECT_EQ(ioctl(again.out.get(), FIONREAD, &bytes), 0);
  again.bytes = static_cast<size_t>(bytes);
  return again;
}

// Each pump ends after a turn, with whatever it has in its pipe, and another one goes on.
TEST_P(PumpTest, OthersGoOnWithWhatIsInThePipe) {
  const std::string bytes = Bytes(size_t{3} << 20);
  const int little = 16 * 1024;  // so that it does not take all at once
  ASSERT_EQ(setsockopt(to_.fd.get(), SOL_SOCKET, SO_SNDBUF, &little, sizeof little), 0);
  ASSERT_EQ(setsockopt(sink_.get(), SOL_SOCKET, SO_RCVBUF, &little, sizeof little), 0);
  auto pump = Pump::Create(from_, to_, pipes_, "early ", {});
  ASSERT_EQ(pump->OwnPipe(), Pump::Owns::kPipe);
  std::string out;
  size_t sent = 0;
  size_t left_in_pipe = 0;
  bool ended = false;
  for (int turn = 0; turn < 100'000 && !ended; ++turn) {
    if (sent < bytes.size()) {
      const ssize_t put =
          send(source_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
      sent += put > 0 ? static_cast<size_t>(put) : 0;
      if (sent == bytes.size()) {
        ASSERT_EQ(shutdown(source_.get(), SHUT_WR), 0);
      }
    }
    ASSERT_NE(pump->Run(), Pump::Status::kFailed);
    Pipe again = Reopened(*pump->pipe());
    left_in_pipe += again.bytes;
    pump = Pump::GoOn(from_, to_, pipes_, std::move(again));
    std::array<char, 50'000> buffer;
    const ssize_t got = recv(sink_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    ended = got == 0;
    out.append(buffer.data(), got > 0 ? static_cast<size_t>(got) : 0);
    pollfd wait = {sink_.get(), POLLIN, 0};
    poll(&wait, 1, got > 0 ? 0 : 1);
  }
  EXPECT_TRUE(ended);
  EXPECT_TRUE(out == "early " + bytes) << out.size();
  EXPECT_GT(left_in_pipe, 0U);
  // The end has been passed on by now; whoever comes next finds so.
  EXPECT_EQ(pump->Run(), Pump::Status::kEnded);
}

// All that came, and its end, was there before anybody went on; the other way is closed already.
TEST_P(PumpTest, GoesOnWithSidesThatHaveEnded) {
  ASSERT_EQ(send(source_.get(), "hello", 5, 0), 5);
  ASSERT_EQ(shutdown(source_.get(), SHUT_WR), 0);
  ASSERT_EQ(shutdown(sink_.get(), SHUT_WR), 0);
  Pipe pipe = PipePool::Make();
  ASSERT_EQ(write(pipe.in.get(), "well ", 5), 5);
  pipe.bytes = 5;
  const auto pump = Pump::GoOn(from_, to_, pipes_, std::move(pipe));
  pollfd come = {from_.fd.get(), POLLIN, 0};
  ASSERT_EQ(poll(&come, 1, 10'000), 1);
  auto status = pump->Run();
  for (int i = 0; i < 1000 && status == Pump::Status::kWaiting; ++i) {
    poll(&come, 1, 10);
    status = pump->Run();
  }
  EXPECT_EQ(status, Pump::Status::kEnded);
  std::array<char, 20> buffer;
  EXPECT_EQ(recv(sink_.get(), buffer.data(), buffer.size(), MSG_WAITALL), 10);
  EXPECT_EQ(std::string(buffer.data(), 10), "well hello");
}

// Through memory, for as long as there is no descriptor for a pipe.
TEST_P(PumpTest, WithoutRoomForAPipe) {
  rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  rlimit none = limit;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const std::string bytes = Bytes(size_t{2} << 20);
  const std::string passed = Passed(bytes, size_t{256} << 10);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(passed, bytes);
}

}  // namespace
}  // namespace oakum::agent
