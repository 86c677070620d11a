// Proxies that are down, slow, silly or gone, and what a dial makes of them.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <deque>
#include <filesystem>
#include <random>

#include "agent/proxy/proxy_socket.h"
#include "dial_testing.h"

namespace oakum::agent {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace): "\0"s
using std::chrono::seconds;

constexpr std::string_view kReply("\x05\x00\x00\x01\x7f\x00\x00\x01\x12\x34", 10);

void AnswerSocks(ProxySide& side) {
  (void)side.Read(3);
  side.Write("\x05\x00"s);
  (void)side.Read(18);
  side.Write(kReply);
  side.AwaitEnd();
}

// Reads what is sent, answers the next piece, and so on.
std::function<void(ProxySide&)> Answers(std::vector<std::pair<size_t, std::string>> steps) {
  return [steps = std::move(steps)](ProxySide& side) {
    for (const auto& [size, answer] : steps) {
      (void)side.Read(size);
      side.Write(answer);
    }
    side.ShutdownWrite();
    side.AwaitEnd();
  };
}

// "us3r:s3cret" in its URL: 3 bytes of greeting, 13 of RFC 1929, 18 of request.
constexpr size_t kGreeting = 3;
constexpr size_t kLogin = 13;
constexpr size_t kRequest = 18;

TEST_F(DialTest, ClosedEarlyAtEveryByte) {
  const std::vector<std::pair<size_t, std::string>> whole = {
      {kGreeting, "\x05\x02"s}, {kLogin, "\x01\x00"s}, {kRequest, std::string(kReply)}};
  for (size_t step = 0; step < whole.size(); ++step) {
    for (size_t size = 0; size < whole[step].second.size(); ++size) {
      auto steps = whole;
      steps.resize(step + 1);
      steps[step].second.resize(size);
      ScriptedProxy proxy(Answers(steps));
      proxy_.urls = {proxy.Url("socks5h", "us3r:s3cret")};
      const DialResult result = Dialled();
      ASSERT_TRUE(result.failure);
      EXPECT_EQ(result.failure->errno_value, ECONNRESET);
      EXPECT_FALSE(result.failure->destination);
      EXPECT_NE(result.failure->text.find("closed the connection before it"), std::string::npos);
    }
  }
  const std::string head = "HTTP/1.1 200 OK\r\n\r\n";
  for (size_t size = 0; size < head.size(); ++size) {
    ScriptedProxy proxy([&](ProxySide& side) {
      (void)side.ReadUntil("\r\n\r\n");
      side.Write(head.substr(0, size));
      side.ShutdownWrite();
      side.AwaitEnd();
    });
    proxy_.urls = {proxy.Url("http", "us3r:s3cret")};
    EXPECT_EQ(Dialled().failure.value_or(ProxyFailure{}).errno_value, ECONNRESET);
  }
  EXPECT_EQ(texts_.find("s3cret"), std::string::npos);
}

TEST_F(DialTest, AResetIsAReset) {
  ScriptedProxy proxy([](ProxySide& side) {
    (void)side.Read(kGreeting);
    side.Abort();
  });
  proxy_.urls = {proxy.Url("socks5h")};
  const DialResult result = Dialled();
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, ECONNRESET);
}

TEST_F(DialTest, CredentialsAreInNoText) {
  const std::string login = "us3r:s3cret";
  std::vector<std::string> garbage = {"s3cret",
                                      "\x05s3cret",
                                      "HTTP/1.1 407 s3cret us3r\r\n\r\n",
                                      "HTTP/1.1 s3cret\r\n\r\n",
                                      "\x01s3cret",
                                      ""};
  // All live to the end: at the port of one that is gone another would be taken for it, and be
  // tried last because that one had failed.
  std::deque<ScriptedProxy> proxies;
  for (const std::string& scheme : {"socks5"s, "socks5h"s, "http"s}) {
    for (const std::string& answer : garbage) {
      ScriptedProxy& first = proxies.emplace_back(Answers({{kGreeting, answer}}));
      ScriptedProxy& second =
          proxies.emplace_back(Answers({{kGreeting, "\x05\x02"s}, {kLogin, "\x01\x01"s}}));
      proxy_.urls = {first.Url(scheme, login), second.Url("socks5h", login)};
      const DialResult result = Dialled(ProxyCommand::kConnect);
      ASSERT_TRUE(result.failure);
      EXPECT_EQ(result.failure->errno_value, EACCES);
      EXPECT_NE(result.failure->text.find("; "), std::string::npos);
    }
  }
  ScriptedProxy refusing(Answers({{kGreeting, "\x05\xff"s}}));
  proxy_.urls = {refusing.Url("socks5h")};
  EXPECT_EQ(Dialled(ProxyCommand::kConnect, Credentials{.user = "us3r", .password = "s3cret"})
                .failure.value_or(ProxyFailure{})
                .errno_value,
            EACCES);
  EXPECT_EQ(texts_.find("s3cret"), std::string::npos) << texts_;
  EXPECT_EQ(texts_.find("us3r"), std::string::npos) << texts_;
}

TEST_F(DialTest, IsolatingCredentialsTakeTheUrlsPlace) {
  std::string login;
  {
    ScriptedProxy proxy([&](ProxySide& side) {
      (void)side.Read(kGreeting);
      side.Write("\x05\x02"s);
      login = side.Read(7);
      side.Write("\x01\x00"s);
      (void)side.Read(kRequest);
      side.Write(kReply);
      side.AwaitEnd();
    });
    proxy_.urls = {proxy.Url("socks5h", "us3r:s3cret")};
    EXPECT_FALSE(
        Dialled(ProxyCommand::kConnect, Credentials{.user = "aa", .password = "bb"}).failure);
  }
  EXPECT_EQ(login,
            "\x01\x02"
            "aa\x02"
            "bb");
}

// Each byte comes in time, all of them do not.
TEST_F(DialTest, ByteByByteEndsAtTheTimeLimit) {
  const auto trickle = [](ProxySide& side) {
    for (int i = 0; i < 600; ++i) {
      side.Write(i == 0 ? "H" : i == 1 ? "T" : i == 2 ? "T" : i == 3 ? "P" : "/");
      pollfd gone = {.fd = side.fd(), .events = POLLRDHUP, .revents = 0};
      if (poll(&gone, 1, 300) != 0) {
        return;
      }
    }
  };
  ScriptedProxy http([&](ProxySide& side) {
    (void)side.ReadUntil("\r\n\r\n");
    for (const char byte : "HTTP/1.1 200 a reason that takes its time"s) {
      side.Write({&byte, 1});
      pollfd gone = {.fd = side.fd(), .events = POLLRDHUP, .revents = 0};
      if (poll(&gone, 1, 300) != 0) {
        return;
      }
    }
  });
  ScriptedProxy socks(trickle);
  proxy_.timeout = seconds(1);
  proxy_.urls = {http.Url("http")};
  const auto begun = EventLoop::Clock::now();
  const DialResult result = Dialled();
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, ETIMEDOUT);
  EXPECT_NE(result.failure->text.find("did not answer within 1 s"), std::string::npos);
  EXPECT_GE(EventLoop::Clock::now() - begun, seconds(1));
  EXPECT_LT(EventLoop::Clock::now() - begun, seconds(10));
  proxy_.urls = {socks.Url("socks5h")};
  EXPECT_EQ(Dialled().failure.value_or(ProxyFailure{}).errno_value, EPROTO);
}

TEST_F(DialTest, AProxyThatIsSilentBeforeTheRequestIsLeftForTheNext) {
  ScriptedProxy silent([](ProxySide& side) { side.AwaitEnd(); });
  ScriptedProxy good(AnswerSocks);
  proxy_.timeout = seconds(1);
  proxy_.urls = {silent.Url("socks5h"), good.Url("socks5h")};
  EXPECT_FALSE(Dialled().failure);
  EXPECT_EQ(upstreams_.Order(proxy_), (std::vector<size_t>{1, 0}));
}

TEST_F(DialTest, ADestinationThatIsSilentEndsTheWait) {
  ScriptedProxy waiting([](ProxySide& side) {
    (void)side.Read(kGreeting);
    side.Write("\x05\x00"s);
    side.AwaitEnd();
  });
  ScriptedProxy good(AnswerSocks);
  proxy_.timeout = seconds(1);
  proxy_.urls = {waiting.Url("socks5h"), good.Url("socks5h")};
  const DialResult result = Dialled();
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, ETIMEDOUT);
  EXPECT_EQ(good.connections(), 0U);
  EXPECT_EQ(upstreams_.Order(proxy_), (std::vector<size_t>{0, 1}));
}

// No destination can make the proxy look down to others.
TEST_F(DialTest, AGeneralFailureIsTriedElsewhereButIsNoBadHealth) {
  ScriptedProxy failing(
      Answers({{kGreeting, "\x05\x00"s}, {kRequest, "\x05\x01\x00\x01\x00\x00\x00\x00\x00\x00"s}}));
  ScriptedProxy good(AnswerSocks);
  proxy_.urls = {failing.Url("socks5h"), good.Url("socks5h")};
  EXPECT_FALSE(Dialled().failure);
  EXPECT_EQ(good.connections(), 1U);
  EXPECT_EQ(upstreams_.Order(proxy_), (std::vector<size_t>{0, 1}));
}

TEST_F(DialTest, UdpIsAskedOfWhoCanDoIt) {
  ScriptedProxy http([](ProxySide& side) { side.AwaitEnd(); });
  ScriptedProxy without(
      Answers({{kGreeting, "\x05\x00"s}, {10, "\x05\x07\x00\x01\x00\x00\x00\x00\x00\x00"s}}));
  ScriptedProxy with(
      Answers({{kGreeting, "\x05\x00"s}, {10, "\x05\x00\x00\x01\x00\x00\x00\x00\x12\x34"s}}));
  target_ = {};
  proxy_.urls = {http.Url("http"), without.Url("socks5h"), with.Url("socks5h")};
  const DialResult result = Dialled(ProxyCommand::kUdpAssociate);
  ASSERT_FALSE(result.failure) << result.failure->text;
  EXPECT_EQ(result.stream.bound.ip.ToString(), "127.0.0.1");
  EXPECT_EQ(result.stream.bound.port, 0x1234);
  EXPECT_EQ(http.connections(), 0U);
  EXPECT_EQ(upstreams_.udp(proxy_.urls[0]), Upstreams::Udp::kUnknown);
  EXPECT_EQ(upstreams_.udp(proxy_.urls[1]), Upstreams::Udp::kNo);
  EXPECT_EQ(upstreams_.udp(proxy_.urls[2]), Upstreams::Udp::kYes);
}

TEST_F(DialTest, ResolvesByTor) {
  ScriptedProxy proxy(
      Answers({{kGreeting, "\x05\x00"s}, {kRequest, "\x05\x00\x00\x01\xc0\x00\x02\x07\x00\x00"s}}));
  proxy_.urls = {proxy.Url("socks5h")};
  const DialResult result = Dialled(ProxyCommand::kResolve);
  ASSERT_FALSE(result.failure) << result.failure->text;
  EXPECT_EQ(result.stream.bound.ip.ToString(), "192.0.2.7");
}

TEST_F(DialTest, HostNamesAreResolvedOnAThread) {
  ScriptedProxy proxy(AnswerSocks);
  policy::ProxyUrl url = proxy.Url("socks5h");
  url.endpoint.reset();
  url.host = "localhost";
  proxy_.urls = {url};
  for (int i = 0; i < 3; ++i) {  // the second time from what is kept
    const DialResult result = Dialled();
    ASSERT_FALSE(result.failure) << result.failure->text;
  }
  proxy_.urls[0].host = "no-such-host.invalid";  // RFC 6761 section 6.4
  const DialResult result = Dialled();
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, EHOSTUNREACH);
  EXPECT_NE(result.failure->text.find("its name cannot be resolved"), std::string::npos);
}

TEST_F(DialTest, UnixSockets) {
  std::string dir = (std::filesystem::temp_directory_path() / "oakum-dial-XXXXXX").string();
  ASSERT_NE(mkdtemp(dir.data()), nullptr);
  const std::string path = dir + "/s";
  proxy_.urls = {*policy::ParseProxyUrl("socks5h+unix://" + path)};
  const DialResult missing = Dialled();
  ASSERT_TRUE(missing.failure);
  EXPECT_EQ(missing.failure->errno_value, ECONNREFUSED);
  EXPECT_NE(missing.failure->text.find(path + " (socks5h): connect: No such file or directory"),
            std::string::npos)
      << missing.failure->text;
  {
    UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const SockaddrCopy address = UnixSockaddr(path);
    ASSERT_EQ(bind(listener.get(), address.get(), address.length), 0);
    ASSERT_EQ(listen(listener.get(), 8), 0);
    std::thread server([&] {
      ProxySide side(UniqueFd(accept(listener.get(), nullptr, nullptr)));
      AnswerSocks(side);
    });
    {
      const DialResult result = Dialled();
      EXPECT_FALSE(result.failure);
    }
    server.join();
  }
  std::filesystem::remove_all(dir);
}

TEST_F(DialTest, TheCallerMakesTheSocket) {
  ScriptedProxy proxy(AnswerSocks);
  proxy_.urls = {proxy.Url("socks5h")};
  const auto dial = [&](std::function<UniqueFd(int)> make_socket) {
    DialRequest request;
    request.proxy = &proxy_;
    request.target = target_;
    request.make_socket = std::move(make_socket);
    std::optional<DialResult> result;
    const auto started = Dial::Start(*loop_, upstreams_, std::move(request),
                                     [&](DialResult got) { result = std::move(got); });
    while (!result) {
      EXPECT_TRUE(loop_->RunOnce(seconds(1)));
    }
    return std::move(*result);
  };
  int made = -1;
  const DialResult result = dial([&](int domain) {
    made = domain;
    return UniqueFd(socket(domain, SOCK_STREAM | SOCK_CLOEXEC, 0));
  });
  EXPECT_FALSE(result.failure);
  EXPECT_EQ(made, AF_INET);
  const DialResult failed = dial([](int) {
    errno = ENETUNREACH;
    return UniqueFd();
  });
  ASSERT_TRUE(failed.failure);
  EXPECT_EQ(failed.failure->errno_value, ENETUNREACH);
}

// Given up at every moment: nothing is called back, and nothing is left in the loop.
TEST_F(DialTest, GivenUpAtAnyMoment) {
  ScriptedProxy proxy(AnswerSocks);
  policy::ProxyUrl named = proxy.Url("socks5h");
  named.endpoint.reset();
  named.host = "localhost";
  for (const policy::ProxyUrl& url : {proxy.Url("socks5h"), named}) {
    proxy_.urls = {url};
    for (int rounds = 0; rounds < 8; ++rounds) {
      bool called = false;
      int ran = 0;
      {
        DialRequest request;
        request.proxy = &proxy_;
        request.target = target_;
        auto dial =
            Dial::Start(*loop_, upstreams_, std::move(request), [&](DialResult) { called = true; });
        while (ran < rounds && !called) {
          ASSERT_TRUE(loop_->RunOnce(std::chrono::milliseconds(20)));
          ++ran;
        }
        called = false;
      }
      ASSERT_TRUE(loop_->RunOnce(std::chrono::milliseconds(5)));
      EXPECT_FALSE(called);
    }
  }
}

TEST_F(DialTest, RandomProxies) {
  std::mt19937 random(1);  // NOLINT: the same each time
  proxy_.timeout = seconds(5);
  for (int round = 0; round < 300; ++round) {
    const auto seed = random();
    ScriptedProxy proxy([seed](ProxySide& side) {
      std::mt19937 inner(seed);  // NOLINT
      std::string bytes(inner() % 64, '\0');
      for (char& byte : bytes) {
        static constexpr std::string_view kLikely("\x05\x00\x01\x02\x03\x04HTP/1. 20\r\n", 17);
        byte = kLikely[inner() % kLikely.size()];
      }
      side.Write(bytes);
      side.ShutdownWrite();
      side.AwaitEnd();
    });
    proxy_.urls = {proxy.Url(round % 2 != 0 ? "http" : "socks5h", "us3r:s3cret")};
    const DialResult result = Dialled();
    if (result.failure) {
      EXPECT_NE(result.failure->errno_value, ETIMEDOUT) << result.failure->text;
    }
  }
  EXPECT_EQ(texts_.find("s3cret"), std::string::npos);
}

}  // namespace
}  // namespace oakum::agent
