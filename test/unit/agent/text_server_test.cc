#include "agent/server/text_server.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "agent/server/unix_socket.h"

namespace oakum::agent {
namespace {

using std::chrono::milliseconds;

class TextServerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "oakum-text-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    dir_ = pattern;
    loop_ = EventLoop::Create().value();
    socket_ = std::make_unique<UnixListener>(UnixListener::Create(dir_ + "/s").value());
    Serve(milliseconds(60'000));
  }
  void TearDown() override {
    server_.reset();
    socket_.reset();
    std::filesystem::remove_all(dir_);
  }
  void Serve(milliseconds max_idle) {
    server_.reset();
    server_ = TextServer::Create(
                  *loop_, socket_->fd(),
                  {.name = "test",
                   .terminator = "\n",
                   .too_long = "too long\n",
                   .max_clients = 4,
                   .max_request = 100,
                   .max_unread = max_unread_,
                   .max_idle = max_idle},
                  [this](int) -> std::optional<Peer> {
                    return peers_.empty() ? Peer() : peers_[admitted_++ % peers_.size()];
                  },
                  [this](std::string_view request, const Peer&) {
                    ++requests_;
                    return TextServer::Reply{
                        .text = std::string(repeat_, 'x') + std::string(request) + "\n",
                        .close = request == "bye"};
                  },
                  log_)
                  .value();
  }
  [[nodiscard]] UniqueFd Connect() const {
    UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    struct sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, socket_->path().data(), socket_->path().size());
    EXPECT_EQ(connect(fd.get(), reinterpret_cast<struct sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }
  static void Send(const UniqueFd& fd, std::string_view text) {
    ASSERT_EQ(send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));
  }
  // What arrives until `size` bytes are there, the server closes ("!" at the end), or two seconds
  // have gone by.
  std::string Receive(const UniqueFd& fd, size_t size) {
    std::string text;
    std::vector<char> buffer(65'536);
    for (int i = 0; i < 400 && text.size() < size; ++i) {
      EXPECT_TRUE(loop_->RunOnce(milliseconds(5)));
      const ssize_t got = recv(fd.get(), buffer.data(), buffer.size(), 0);
      if (got == 0) {
        return text + "!";
      }
      text.append(buffer.data(), got > 0 ? static_cast<size_t>(got) : 0);
    }
    return text;
  }

  std::string dir_;
  Log log_{"test", LogLevel::kError};
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<UnixListener> socket_;
  std::unique_ptr<TextServer> server_;
  size_t repeat_ = 0;
  size_t max_unread_ = 64'000'000;
  std::vector<Peer> peers_;  // who come, one after the other
  size_t admitted_ = 0;
  int requests_ = 0;
};

TEST_F(TextServerTest, AnswersEachRequestInTurn) {
  const UniqueFd client = Connect();
  Send(client, "on");
  EXPECT_TRUE(loop_->RunOnce(milliseconds(5)));
  Send(client, "e\ntwo\nthr");
  EXPECT_EQ(Receive(client, 8), "one\ntwo\n");
  Send(client, "ee\nbye\nmore\n");
  EXPECT_EQ(Receive(client, 100), "three\nbye\n!");
  EXPECT_EQ(requests_, 4);
}

TEST_F(TextServerTest, TooLongARequestIsRefused) {
  const UniqueFd client = Connect();
  Send(client, std::string(5'000, 'a'));
  EXPECT_TRUE(Receive(client, 100).starts_with("too long\n"));
  const UniqueFd second = Connect();
  Send(second, std::string(101, 'a') + "\n");
  EXPECT_EQ(Receive(second, 100), "too long\n!");
  EXPECT_EQ(requests_, 0);
}

TEST_F(TextServerTest, ClientThatDoesNotReadDelaysNobody) {
  repeat_ = 4'000'000;
  const UniqueFd slow = Connect();
  Send(slow, "a\nb\n");
  EXPECT_TRUE(loop_->RunOnce(milliseconds(5)));
  EXPECT_TRUE(loop_->RunOnce(milliseconds(5)));
  EXPECT_EQ(requests_, 1) << "the second answer is not made before the first is read";
  repeat_ = 0;
  const UniqueFd quick = Connect();
  Send(quick, "c\n");
  EXPECT_EQ(Receive(quick, 2), "c\n");
  EXPECT_EQ(Receive(slow, 4'000'004).size(), 4'000'004);
}

TEST_F(TextServerTest, ClientsAreBoundedAndIdleOnesClosed) {
  Serve(milliseconds(100));
  std::vector<UniqueFd> idle;
  for (int i = 0; i < 4; ++i) {
    idle.push_back(Connect());
  }
  const UniqueFd fifth = Connect();
  EXPECT_EQ(Receive(fifth, 1), "!");
  EXPECT_EQ(server_->clients(), 4);
  EXPECT_EQ(Receive(idle[0], 1), "!") << "after its time";
  EXPECT_EQ(server_->clients(), 0);
}

TEST_F(TextServerTest, OneUserDoesNotKeepAnotherOut) {
  for (pid_t pid = 1; pid <= 5; ++pid) {
    peers_.push_back({.uid = 1000, .gid = 1000, .pid = pid});  // a process each
  }
  peers_.push_back({.uid = 0, .gid = 0, .pid = 6});
  std::vector<UniqueFd> users;
  for (int i = 0; i < 4; ++i) {
    users.push_back(Connect());
    EXPECT_TRUE(loop_->RunOnce(milliseconds(5)));
  }
  const UniqueFd fifth = Connect();
  EXPECT_EQ(Receive(fifth, 1), "!") << "has as much as any process of its user";
  const UniqueFd root = Connect();
  Send(root, "root\n");
  EXPECT_EQ(Receive(root, 5), "root\n");
  EXPECT_EQ(Receive(users[0], 1), "!") << "who came first and has said nothing";
  EXPECT_EQ(server_->clients(), 4);
}

TEST_F(TextServerTest, AnswersThatNobodyReadsAreBounded) {
  max_unread_ = 10'000'000;
  Serve(milliseconds(60'000));
  repeat_ = 4'000'000;
  std::vector<UniqueFd> clients;
  for (int i = 0; i < 4; ++i) {
    clients.push_back(Connect());
    Send(clients.back(), "a\n");
    for (int turn = 0; turn < 3; ++turn) {
      EXPECT_TRUE(loop_->RunOnce(milliseconds(5)));
    }
  }
  EXPECT_EQ(server_->clients(), 2) << "the oldest have gone";
  EXPECT_EQ(Receive(clients[3], 4'000'002).size(), 4'000'002);
}

TEST_F(TextServerTest, OneThatSendsManyRequestsDelaysNobody) {
  const UniqueFd busy = Connect();
  std::string many;
  for (int i = 0; i < 1'000; ++i) {
    many += "r\n";
  }
  Send(busy, many);
  EXPECT_TRUE(loop_->RunOnce(milliseconds(5)));
  EXPECT_TRUE(loop_->RunOnce(milliseconds(5)));
  EXPECT_LT(requests_, 100);
  EXPECT_EQ(Receive(busy, 2'000), many);
}

TEST_F(TextServerTest, ClientThatLeavesInTheMiddleIsForgotten) {
  {
    const UniqueFd client = Connect();
    Send(client, "ha");
  }
  repeat_ = 4'000'000;
  {
    const UniqueFd client = Connect();
    Send(client, "a\n");
  }
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(loop_->RunOnce(milliseconds(5)));
  }
  EXPECT_EQ(server_->clients(), 0);
}

}  // namespace
}  // namespace oakum::agent
