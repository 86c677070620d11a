#include "agent/proxy/ready_proxies.h"

#include <atomic>
#include <cerrno>
#include <future>
#include <vector>

#include "dial_testing.h"

namespace oakum::agent {
namespace {

using namespace std::string_literals;  // NOLINT(google-build-using-namespace): "\0"s
using Clock = ReadyProxies::Clock;

constexpr size_t kRequest = 4 + 1 + 11 + 2;  // for example.com

std::string Reply(char code) { return "\x05"s + code + "\x00\x01\x7f\x00\x00\x01\x12\x34"s; }

void Greet(ProxySide& side) {
  (void)side.Read(3);
  side.Write("\x05\x00"s);
}

class ReadyProxiesTest : public DialTest {
 protected:
  ReadyProxiesTest() : all_(1000), share_(RelayShare::Create(all_)) {}

  DialRequest Request() {
    DialRequest request;
    request.proxy = &proxy_;
    request.target = target_;
    request.ready = &ready_;
    return request;
  }

  // Greets the proxy and keeps that.
  void Keep(std::optional<Credentials> credentials = std::nullopt) {
    DialResult greeted = Dialled(ProxyCommand::kGreet, credentials);
    ASSERT_FALSE(greeted.failure) << greeted.failure->text;
    DialRequest request = Request();
    request.credentials = std::move(credentials);
    (void)ready_.Put(request, std::move(greeted.stream), *share_->Take(), Clock::now());
  }

  DialResult Ask(std::optional<Credentials> credentials = std::nullopt) {
    use_ready_ = &ready_;
    DialResult result = Dialled(ProxyCommand::kConnect, std::move(credentials));
    use_ready_ = nullptr;
    return result;
  }

  RelaySlots all_;
  std::shared_ptr<RelayShare> share_;
  ReadyProxies ready_;
};

TEST_F(ReadyProxiesTest, OnlyTheRequestIsLeftToSay) {
  std::string request;
  std::optional<ScriptedProxy> proxy(std::in_place, [&](ProxySide& side) {
    Greet(side);
    request = side.Read(kRequest);
    side.Write(Reply(0));
    side.AwaitEnd();
  });
  proxy_.urls = {proxy->Url("socks5h")};
  Keep();
  {
    const DialResult result = Ask();
    ASSERT_FALSE(result.failure) << result.failure->text;
    EXPECT_EQ(result.stream.bound.port, 0x1234);
  }
  EXPECT_EQ(proxy->connections(), 1U);
  proxy.reset();
  EXPECT_EQ(request, "\x05\x01\x00\x03\x0b"s + "example.com\x01\xbb");
}

TEST_F(ReadyProxiesTest, HttpIsConnectedAhead) {
  std::string request;
  std::optional<ScriptedProxy> proxy(std::in_place, [&](ProxySide& side) {
    request = side.ReadUntil("\r\n\r\n");
    side.Write("HTTP/1.1 200 OK\r\n\r\n");
    side.AwaitEnd();
  });
  proxy_.urls = {proxy->Url("http")};
  Keep();
  ASSERT_FALSE(Ask().failure);
  EXPECT_EQ(proxy->connections(), 1U);
  proxy.reset();
  EXPECT_TRUE(request.starts_with("CONNECT example.com:443 ")) << request;
}

TEST_F(ReadyProxiesTest, WhatWasClosedMeanwhileIsDialledAnew) {
  for (const bool asked : {false, true}) {
    std::atomic<int> served{0};
    ScriptedProxy proxy([&](ProxySide& side) {
      Greet(side);
      if (served++ == 0) {
        if (asked) {
          (void)side.Read(kRequest);
        }
        return;
      }
      (void)side.Read(kRequest);
      side.Write(Reply(0));
      side.AwaitEnd();
    });
    proxy_.urls = {proxy.Url("socks5h")};
    Keep();
    const DialResult result = Ask();
    EXPECT_FALSE(result.failure) << result.failure->text;
    EXPECT_EQ(proxy.connections(), 2U);
    EXPECT_EQ(upstreams_.Order(proxy_), std::vector<size_t>{0});
  }
}

TEST_F(ReadyProxiesTest, AnAnswerIsBelieved) {
  ScriptedProxy proxy([&](ProxySide& side) {
    Greet(side);
    (void)side.Read(kRequest);
    side.Write(Reply(4));
    side.AwaitEnd();
  });
  proxy_.urls = {proxy.Url("socks5h")};
  Keep();
  const DialResult result = Ask();
  ASSERT_TRUE(result.failure);
  EXPECT_EQ(result.failure->errno_value, EHOSTUNREACH);
  EXPECT_EQ(proxy.connections(), 1U);
}

TEST_F(ReadyProxiesTest, CredentialsNetworksAndUrlsAreApart) {
  ScriptedProxy proxy([&](ProxySide& side) {
    (void)side.Read(3);
    side.Write("\x05\x02"s);
    (void)side.Read(5);
    side.Write("\x01\x00"s);
    side.AwaitEnd();
  });
  proxy_.urls = {proxy.Url("socks5h"), proxy.Url("socks5h")};
  const Credentials mine = {.user = "a", .password = "b"};
  Keep(mine);
  EXPECT_FALSE(ready_.Take(proxy_.urls[0], Credentials{.user = "a", .password = "c"}, 0));
  EXPECT_FALSE(ready_.Take(proxy_.urls[0], Credentials{.user = "c", .password = "b"}, 0));
  EXPECT_FALSE(ready_.Take(proxy_.urls[0], std::nullopt, 0));
  EXPECT_FALSE(ready_.Take(proxy_.urls[0], mine, 7));
  EXPECT_FALSE(ready_.Take(proxy_.urls[1], mine, 0));
  EXPECT_TRUE(ready_.Take(proxy_.urls[0], mine, 0));
  EXPECT_FALSE(ready_.Take(proxy_.urls[0], mine, 0)) << "twice the same";
}

TEST_F(ReadyProxiesTest, MadeReadyForThoseWhoConnectOften) {
  UniqueFd keep;
  proxy_.urls = {DownUrl("socks5h", keep)};
  const Clock::time_point start = Clock::now();
  for (size_t i = 1; i < ReadyProxies::kOften; ++i) {
    EXPECT_FALSE(ready_.Note(Request(), start));
  }
  const auto next = ready_.Note(Request(), start);
  ASSERT_TRUE(next);
  EXPECT_EQ(next->command, ProxyCommand::kGreet);
  EXPECT_EQ(next->target.name, "") << "nobody is told where the last one went";
  // Others are not those who connect often.
  DialRequest other = Request();
  other.credentials = Credentials{.user = "a", .password = "b"};
  EXPECT_FALSE(ready_.Note(other, start));
  EXPECT_FALSE(ready_.Note(Request(), start + ReadyProxies::kBurst * 2));
}

TEST_F(ReadyProxiesTest, WhatNobodyWantsIsClosed) {
  std::promise<void> ended;
  ScriptedProxy proxy([&](ProxySide& side) {
    Greet(side);
    side.AwaitEnd();
    ended.set_value();
  });
  proxy_.urls = {proxy.Url("socks5h")};
  Keep();
  EXPECT_TRUE(ready_.DropOld(Clock::now()));
  EXPECT_FALSE(ready_.DropOld(Clock::now() + ReadyProxies::kIdle));
  EXPECT_EQ(ended.get_future().wait_for(std::chrono::seconds(20)), std::future_status::ready);
  // So is the slot.
  std::vector<RelaySlot> slots;
  while (auto slot = share_->Take()) {
    slots.push_back(std::move(*slot));
  }
  EXPECT_EQ(slots.size(), 500U);
}

// A proxy that is slow to greet does not have ever more of them under way.
TEST_F(ReadyProxiesTest, AsManyAreMadeAsMayBeThere) {
  for (size_t i = 0; i < ReadyProxies::kMaxReady; ++i) {
    EXPECT_TRUE(ready_.BeginMaking());
  }
  EXPECT_FALSE(ready_.BeginMaking());
  ready_.EndMaking();
  EXPECT_TRUE(ready_.BeginMaking());
}

TEST_F(ReadyProxiesTest, KeepsNoneAfterTheEnd) {
  ScriptedProxy proxy([&](ProxySide& side) {
    Greet(side);
    side.AwaitEnd();
  });
  proxy_.urls = {proxy.Url("socks5h")};
  Keep();
  ready_.Close();
  EXPECT_FALSE(ready_.Take(proxy_.urls[0], std::nullopt, 0));
  Keep();
  EXPECT_FALSE(ready_.Take(proxy_.urls[0], std::nullopt, 0));
}

TEST_F(ReadyProxiesTest, AProxyThatCannotBeGreetedIsNotTakenForDown) {
  UniqueFd keep;
  ScriptedProxy good([](ProxySide& side) { Greet(side); });
  proxy_.urls = {DownUrl("socks5h", keep), good.Url("socks5h")};
  EXPECT_TRUE(Dialled(ProxyCommand::kGreet).failure);
  EXPECT_EQ(upstreams_.Order(proxy_), (std::vector<size_t>{0, 1}));
  EXPECT_EQ(good.connections(), 0U) << "only the first one is asked";
}

}  // namespace
}  // namespace oakum::agent
