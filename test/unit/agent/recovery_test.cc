// Calls that an agent had received when it ended, and what the next one makes of them.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "agent/session/session_core.h"
#include "test/unit/agent/recovery_testing.h"
#include "test/unit/agent/unused_port.h"

namespace oakum::agent {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

int Connections(int listener_fd) {
  int count = 0;
  pollfd ready = {listener_fd, POLLIN, 0};
  while (poll(&ready, 1, 100) == 1) {
    const UniqueFd one(accept(listener_fd, nullptr, nullptr));
    ++count;
  }
  return count;
}

int ConnectTo(int fd, uint16_t port) {
  const sockaddr_in address = Loopback(port);
  return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

// Waits for the connection, whether the socket does or not.
int Establish(int fd, uint16_t port) {
  pollfd ready = {fd, POLLOUT, 0};
  const int error = ConnectTo(fd, port);
  return error == EINPROGRESS && poll(&ready, 1, 5000) == 1 ? 0 : error;
}

TEST_F(RecoveryTest, WhatWasOnlyReceivedIsHandledAnew) {
  const Server server(SOCK_STREAM);
  Start([&] { return ConnectError(server.port()); });
  Die([](JournalSlot&, int) {});
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), 0);
  EXPECT_EQ(Connections(server.fd()), 1);
}

TEST_F(RecoveryTest, WhatWasDeniedStaysDenied) {
  Start([&] {
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address = Loopback(9);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1);
    return connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0
                                                                                         : errno;
  });
  Die([](JournalSlot&, int) {});
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), EACCES);
}

TEST_F(RecoveryTest, AResultIsToldAndNothingDoneAgain) {
  const Server server(SOCK_STREAM);
  Start([&] { return ConnectError(server.port()); });
  Die([](JournalSlot& slot, int) { slot.Finish(0, EHOSTUNREACH, 0, false); });
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), EHOSTUNREACH);
  EXPECT_EQ(Connections(server.fd()), 0);
}

TEST_F(RecoveryTest, AConnectionThatIsThereIsNotMadeTwice) {
  for (const int flags : {0, int{SOCK_NONBLOCK}}) {
    const Server server(SOCK_STREAM);
    Start([&] { return ConnectError(server.port(), flags); });
    Die([&](JournalSlot& slot, int socket_fd) {
      slot.Begin(JournalAct::kConnect, 0, SocketCookie(socket_fd));
      EXPECT_EQ(Establish(socket_fd, server.port()), 0);
    });
    const auto agent = NextAgent();
    EXPECT_EQ(process_->Wait(), 0);
    EXPECT_EQ(Connections(server.fd()), 1);
    store_.Forget(store_.Items().empty() ? "" : store_.Items().front().name);
  }
}

// The server has taken it and is gone: natively connect(2) had been successful.
TEST_F(RecoveryTest, AConnectionThatWasResetIsNotMadeTwice) {
  const Server server(SOCK_STREAM);
  Start([&] { return ConnectError(server.port()); });
  Die([&](JournalSlot& slot, int socket_fd) {
    slot.Begin(JournalAct::kConnect, 0, SocketCookie(socket_fd));
    EXPECT_EQ(ConnectTo(socket_fd, server.port()), 0);
    UniqueFd peer(accept(server.fd(), nullptr, nullptr));
    const linger reset = {1, 0};
    setsockopt(peer.get(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    peer.Reset();
  });
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), 0);
  EXPECT_EQ(Connections(server.fd()), 0);
}

TEST_F(RecoveryTest, AConnectionThatWasNotBegunIsMade) {
  const Server server(SOCK_STREAM);
  Start([&] { return ConnectError(server.port()); });
  Die([](JournalSlot& slot, int) { slot.Begin(JournalAct::kConnect); });
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), 0);
  EXPECT_EQ(Connections(server.fd()), 1);
}

// A listener whose queue is full lets a SYN wait.
class FullServer : public Server {
 public:
  FullServer() : Server(SOCK_STREAM) {
    EXPECT_EQ(listen(fd(), 0), 0);
    for (UniqueFd& one : waiting_) {
      one.Reset(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
      (void)ConnectTo(one.get(), port());
    }
  }

 private:
  UniqueFd waiting_[2];
};

TEST_F(RecoveryTest, ANonBlockingConnectionOnItsWayIsInProgress) {
  const FullServer server;
  Start([&] { return ConnectError(server.port(), SOCK_NONBLOCK); });
  Die([&](JournalSlot& slot, int socket_fd) {
    slot.Begin(JournalAct::kConnect, 0, SocketCookie(socket_fd));
    EXPECT_EQ(ConnectTo(socket_fd, server.port()), EINPROGRESS);
  });
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), EINPROGRESS);
}

TEST_F(RecoveryTest, ARefusedConnectionIsRefused) {
  const UnusedPort nobody;
  Start([&] { return ConnectError(nobody.port()); });
  Die([&](JournalSlot& slot, int socket_fd) {
    slot.Begin(JournalAct::kConnect, 0, SocketCookie(socket_fd));
    EXPECT_EQ(ConnectTo(socket_fd, nobody.port()), ECONNREFUSED);
  });
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), ECONNREFUSED);
}

// The agent was speaking to a proxy on it: whoever is at the other end is not the destination.
TEST_F(RecoveryTest, AConnectionToAProxyIsBegunAnew) {
  const Server server(SOCK_STREAM);
  const Server proxy(SOCK_STREAM);
  Start([&] { return ConnectError(server.port()); });
  Die([&](JournalSlot& slot, int socket_fd) {
    slot.Begin(JournalAct::kCarry, 0, SocketCookie(socket_fd));
    EXPECT_EQ(ConnectTo(socket_fd, proxy.port()), 0);
  });
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), 0);
  EXPECT_EQ(Connections(server.fd()), 1);
  const UniqueFd left(accept(proxy.fd(), nullptr, nullptr));
  char byte = 0;
  EXPECT_LE(recv(left.get(), &byte, 1, 0), 0);
}

TEST_F(RecoveryTest, ADatagramThatMayHaveBeenSentIsNotSentAgain) {
  const Server server(SOCK_DGRAM);
  Start([&] { return SendError(server.port()); });
  Die([](JournalSlot& slot, int) { slot.Begin(JournalAct::kSend, 4); });
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), 0);
  EXPECT_FALSE(server.Reached());
}

TEST_F(RecoveryTest, ADatagramThatWasNotSentIs) {
  const Server server(SOCK_DGRAM);
  Start([&] { return SendError(server.port()); });
  Die([](JournalSlot&, int) {});
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), 0);
  EXPECT_TRUE(server.Reached());
}

TEST_F(RecoveryTest, WhatWasSentOfManyIsTold) {
  const Server server(SOCK_DGRAM);
  Start([&] {
    sockaddr_in address = Loopback(server.port());
    iovec piece = {const_cast<char*>("x"), 1};
    mmsghdr messages[3] = {};
    for (mmsghdr& message : messages) {
      message.msg_hdr.msg_name = &address;
      message.msg_hdr.msg_namelen = sizeof address;
      message.msg_hdr.msg_iov = &piece;
      message.msg_hdr.msg_iovlen = 1;
    }
    return sendmmsg(socket(AF_INET, SOCK_DGRAM, 0), messages, 3, 0);
  });
  Die([](JournalSlot& slot, int) { slot.End(2); });
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), 2);
  EXPECT_FALSE(server.Reached());
}

// What a guarded program gets that sends "data" on `fd` by sendmsg(2).
int SendData(int fd) {
  iovec piece = {const_cast<char*>("data"), 4};
  msghdr message = {};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  const ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
  return sent < 0 ? errno : -static_cast<int>(sent);
}

TEST_F(RecoveryTest, AStreamSaysHowMuchItHasTaken) {
  for (const int taken : {0, 3, 4}) {
    const Server server(SOCK_STREAM);
    UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
    ASSERT_EQ(ConnectTo(fd.get(), server.port()), 0);
    ASSERT_EQ(write(fd.get(), "before", 6), 6);
    Start([&] { return 100 + SendData(fd.get()); });
    Die([&](JournalSlot& slot, int socket_fd) {
      slot.written = StreamPosition(socket_fd);
      slot.Begin(JournalAct::kSendStream, 4);
      EXPECT_EQ(send(socket_fd, "data", static_cast<size_t>(taken), 0), taken);
    });
    const auto agent = NextAgent();
    EXPECT_EQ(process_->Wait(), 100 - (taken == 0 ? 4 : taken));  // nothing: it is sent now
    fd.Reset();
    const UniqueFd peer(accept(server.fd(), nullptr, nullptr));
    char bytes[32];
    ssize_t got = 0;
    for (ssize_t one = 1; one > 0; got += one) {
      one = recv(peer.get(), bytes + got, sizeof bytes - static_cast<size_t>(got), 0);
      ASSERT_GE(one, 0);
    }
    EXPECT_EQ(got, 6 + (taken == 0 ? 4 : taken));
    store_.Forget(store_.Items().empty() ? "" : store_.Items().front().name);
  }
}

TEST_F(RecoveryTest, AStreamOfWhichNobodyKnowsEnds) {
  int ends[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  UniqueFd fd(ends[0]);
  const UniqueFd peer(ends[1]);
  Start([&] { return SendData(fd.get()); });
  Die([](JournalSlot& slot, int socket_fd) {
    slot.written = StreamPosition(socket_fd);
    slot.Begin(JournalAct::kSendStream, 4);
  });
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), ECONNRESET);
  char byte = 0;
  EXPECT_EQ(recv(peer.get(), &byte, 1, 0), 0);
}

// The number is another socket's by now, which has its own call to answer.
TEST_F(RecoveryTest, WhatIsKnownOfASocketIsSaidOfNoOther) {
  const Server server(SOCK_STREAM);
  Start([&] { return ConnectError(server.port()); });
  Die([&](JournalSlot& slot, int socket_fd) {
    slot.Begin(JournalAct::kConnect, 0, SocketCookie(socket_fd) + 1);
  });
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), 0);
  EXPECT_EQ(Connections(server.fd()), 1);
}

// The call was answered; the thread's next one, on another socket under the same number, is not.
TEST_F(RecoveryTest, AnAnsweredCallSaysNothingOfTheNext) {
  const Server server(SOCK_STREAM);
  Start([&] {
    for (int i = 0; i < 2; ++i) {
      const UniqueFd fd(socket(AF_INET, SOCK_STREAM, 0));
      sockaddr_in address = Loopback(server.port());
      if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
          (i > 0 && write(fd.get(), "x", 1) != 1)) {
        return errno;
      }
    }
    return 0;
  });
  Die([&](JournalSlot& slot, int socket_fd) {
    slot.Begin(JournalAct::kConnect, 0, SocketCookie(socket_fd));
    slot.Finish(0, 0, SocketCookie(socket_fd), false);
    auto items = store_.Items();
    for (UniqueFd& fd : items.front().fds) {
      if (NotifyFd::IsListener(fd.get())) {
        EXPECT_EQ(NotifyFd::Create(std::move(fd))->Respond(slot.notification.id, 0, 0), 0);
        usleep(50'000);
        break;
      }
    }
  });
  const auto agent = NextAgent();
  EXPECT_EQ(process_->Wait(), 0);
  EXPECT_EQ(Connections(server.fd()), 1);
}

TEST_F(RecoveryTest, ABoundSocketIsNotBoundAgain) {
  for (const bool done : {true, false}) {
    Start([&] {
      const int fd = socket(AF_INET, SOCK_STREAM, 0);
      const sockaddr_in address = Loopback(0);
      return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
    });
    Die([&](JournalSlot& slot, int socket_fd) {
      slot.Begin(JournalAct::kBind);
      const sockaddr_in address = Loopback(0);
      if (done) {
        EXPECT_EQ(bind(socket_fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
      }
    });
    const auto agent = NextAgent();
    EXPECT_EQ(process_->Wait(), 0) << done;
    store_.Forget(store_.Items().empty() ? "" : store_.Items().front().name);
  }
}

TEST_F(RecoveryTest, AnAgentThatEndsLeavesWhatWaitsToTheNext) {
  const FullServer server;
  Start([&] { return ConnectError(server.port()); });
  auto agent = NewAgent();
  ASSERT_TRUE(agent->Attach(State(), process_->TakeListener()).has_value());
  ASSERT_THAT(store_.Items(), SizeIs(1));
  process_->Go();
  while (agent->List().empty() || agent->List().front().waiting == 0) {
    usleep(1000);
  }
  const int64_t attached = agent->List().front().attached_ns;
  agent.reset();
  agent = NextAgent();
  ASSERT_THAT(agent->List(), SizeIs(1));
  EXPECT_EQ(agent->List().front().attached_ns, attached);
  EXPECT_EQ(agent->List().front().policy, "p");
  EXPECT_EQ(agent->List().front().init_pid, process_->pid());
  while (agent->List().front().waiting == 0) {
    usleep(1000);
  }
  // Room in the queue: the SYN that is sent again is answered.
  for (int i = 0; i < 2; ++i) {
    const UniqueFd one(accept(server.fd(), nullptr, nullptr));
  }
  EXPECT_EQ(process_->Wait(), 0);
  // What has ended is kept no longer.
  while (!store_.Items().empty()) {
    usleep(1000);
  }
}

TEST_F(RecoveryTest, AnotherVersionIsRefusedBeforeAnythingIsTakenOver) {
  const Server server(SOCK_STREAM);
  Start([&] { return ConnectError(server.port()); });
  Die([](JournalSlot&, int) {});
  std::vector<KeptItem> items = store_.Items();
  const uint32_t later = kJournalVersion + 1;
  constexpr off_t kVersionAt = 8;
  const auto file = std::ranges::find_if(
      items.front().fds, [](const UniqueFd& fd) { return fcntl(fd.get(), F_GET_SEALS) >= 0; });
  const UniqueFd copy(fcntl(file->get(), F_DUPFD_CLOEXEC, 0));
  ASSERT_EQ(pwrite(copy.get(), &later, sizeof later, kVersionAt), sizeof later);
  auto agent = NewAgent();
  const auto refused = agent->Adopt(std::move(items));
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ENOTSUP);
  EXPECT_THAT(agent->List(), IsEmpty());
  EXPECT_THAT(store_.Items(), SizeIs(1));
  // The right one comes, and the call is still there.
  ASSERT_EQ(pwrite(copy.get(), &kJournalVersion, sizeof later, kVersionAt), sizeof later);
  agent = NextAgent();
  EXPECT_EQ(process_->Wait(), 0);
}

}  // namespace
}  // namespace oakum::agent
