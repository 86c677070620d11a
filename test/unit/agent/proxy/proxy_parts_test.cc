// Which URLs work, who shares credentials, and how proxies are named.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "agent/proxy/handshake.h"
#include "agent/proxy/isolator.h"
#include "agent/proxy/upstreams.h"

namespace oakum::agent {
namespace {

using std::chrono::seconds;

policy::ProxyUrl Url(const std::string& text) {
  auto url = policy::ParseProxyUrl(text);
  EXPECT_TRUE(url.has_value());
  return url.value_or(policy::ProxyUrl{});
}

TEST(Upstreams, ThoseThatFailedComeLastTheLongestAgoFirst) {
  Upstreams::Clock::time_point now(std::chrono::hours(1));
  Upstreams upstreams([&now] { return now; });
  policy::Proxy proxy;
  proxy.urls = {Url("socks5h://192.0.2.1:1"), Url("socks5h://192.0.2.2:1"),
                Url("socks5h://192.0.2.3:1")};
  EXPECT_EQ(upstreams.Order(proxy), (std::vector<size_t>{0, 1, 2}));
  upstreams.Failed(proxy.urls[1]);
  now += std::chrono::milliseconds(1);
  upstreams.Failed(proxy.urls[0]);
  EXPECT_EQ(upstreams.Order(proxy), (std::vector<size_t>{2, 1, 0}));
  upstreams.Worked(proxy.urls[0]);
  EXPECT_EQ(upstreams.Order(proxy), (std::vector<size_t>{0, 2, 1}));
  // A second later it is tried in its place again.
  now += seconds(1);
  EXPECT_EQ(upstreams.Order(proxy), (std::vector<size_t>{0, 1, 2}));
  // The second failure counts for two seconds, and those together with it for nothing.
  upstreams.Failed(proxy.urls[1]);
  upstreams.Failed(proxy.urls[1]);
  now += std::chrono::milliseconds(1999);
  EXPECT_EQ(upstreams.Order(proxy), (std::vector<size_t>{0, 2, 1}));
  now += std::chrono::milliseconds(1);
  EXPECT_EQ(upstreams.Order(proxy), (std::vector<size_t>{0, 1, 2}));
  // Never for more than a minute.
  for (int i = 0; i < 20; ++i) {
    upstreams.Failed(proxy.urls[0]);
    now += seconds(60);
    EXPECT_EQ(upstreams.Order(proxy), (std::vector<size_t>{0, 1, 2}));
  }
}

TEST(Upstreams, AreKnownByWhatTheUrlSaysWithoutCredentials) {
  Upstreams upstreams([] { return Upstreams::Clock::time_point(std::chrono::hours(1)); });
  policy::Proxy proxy;
  proxy.urls = {Url("socks5h://u:p@192.0.2.1:1"), Url("http://192.0.2.1:1")};
  upstreams.Failed(Url("socks5h://other:secret@192.0.2.1:1"));
  EXPECT_EQ(upstreams.Order(proxy), (std::vector<size_t>{1, 0}));
}

TEST(Upstreams, RemembersWhoCarriesUdp) {
  Upstreams::Clock::time_point now(std::chrono::hours(1));
  Upstreams upstreams([&now] { return now; });
  const policy::ProxyUrl url = Url("socks5h://192.0.2.1:1");
  EXPECT_EQ(upstreams.udp(url), Upstreams::Udp::kUnknown);
  upstreams.SetUdp(url, Upstreams::Udp::kNo);
  EXPECT_EQ(upstreams.udp(url), Upstreams::Udp::kNo);
  now += seconds(60);
  EXPECT_EQ(upstreams.udp(url), Upstreams::Udp::kUnknown);
  upstreams.SetUdp(url, Upstreams::Udp::kYes);
  now += seconds(3600);
  EXPECT_EQ(upstreams.udp(url), Upstreams::Udp::kYes);
}

class IsolatorTest : public testing::Test {
 protected:
  std::string Password(const std::string& name = "a.example", pid_t tgid = 1, uint64_t start = 1) {
    const ProxyTarget target = {.name = name, .address = {.ip = {}, .port = 443}};
    const auto credentials = isolator_.For(proxy_, target, tgid, start);
    EXPECT_TRUE(credentials.has_value());
    return credentials ? credentials->password : "";
  }

  policy::Proxy proxy_;
  Isolator isolator_;
};

TEST_F(IsolatorTest, NothingForNone) {
  proxy_.isolate = policy::Isolation::kNone;
  EXPECT_FALSE(isolator_.For(proxy_, {}, 1, 1));
}

TEST_F(IsolatorTest, Looks) {
  for (const auto format : {policy::CredentialFormat::kPassword, policy::CredentialFormat::kTor}) {
    proxy_.isolate = policy::Isolation::kContainer;
    proxy_.format = format;
    const auto credentials = isolator_.For(proxy_, {}, 1, 1);
    ASSERT_TRUE(credentials);
    EXPECT_EQ(credentials->user == "<torS0X>0", format == policy::CredentialFormat::kTor);
    EXPECT_EQ(credentials->user.find(':'), std::string::npos);  // RFC 7617
    EXPECT_EQ(credentials->password.size(), 64U);
    EXPECT_EQ(credentials->password.find_first_not_of(
                  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
              std::string::npos);
  }
}

TEST_F(IsolatorTest, KeepsApartWhatThePolicySays) {
  proxy_.isolate = policy::Isolation::kContainer;
  const std::string container = Password();
  EXPECT_EQ(Password("b.example", 2, 2), container);
  Isolator another;
  EXPECT_NE(another.For(proxy_, {}, 1, 1)->password, container);

  proxy_.isolate = policy::Isolation::kProcess;
  const std::string process = Password();
  EXPECT_NE(process, container);
  EXPECT_EQ(Password("b.example"), process);
  EXPECT_NE(Password("a.example", 2, 1), process);
  EXPECT_NE(Password("a.example", 1, 2), process);  // the number was used again

  proxy_.isolate = policy::Isolation::kDestination;
  const std::string destination = Password();
  EXPECT_EQ(Password("a.example", 2, 2), destination);
  EXPECT_NE(Password("b.example"), destination);

  proxy_.isolate = policy::Isolation::kConnection;
  EXPECT_NE(Password(), Password());

  proxy_.isolate = policy::Isolation::kContainer;
  proxy_.name = "another";
  EXPECT_NE(Password(), container);
}

TEST_F(IsolatorTest, IsBoundedAndNeverRepeats) {
  proxy_.isolate = policy::Isolation::kDestination;
  const std::string kept = Password("kept.example");
  const std::string dropped = Password("dropped.example");
  std::set<std::string> seen = {kept, dropped};
  for (int i = 0; i < 6000; ++i) {
    EXPECT_TRUE(seen.insert(Password(std::to_string(i))).second);
    EXPECT_EQ(Password("kept.example"), kept);  // used all the time
  }
  EXPECT_NE(Password("dropped.example"), dropped);
  // Each of the 64 characters comes about equally often: 6000 x 64 draws, 6000 expected each.
  std::map<char, int> counts;
  for (const std::string& password : seen) {
    for (const char c : password) {
      ++counts[c];
    }
  }
  EXPECT_EQ(counts.size(), 64U);
  for (const auto& [c, count] : counts) {
    EXPECT_NEAR(count, 6000, 600) << c;
  }
}

TEST(ProxyLabel, NamesTheProxyAndNobodyElse) {
  EXPECT_EQ(ProxyLabel(Url("socks5h://u:p@10.88.0.1:9050")), "10.88.0.1:9050 (socks5h)");
  EXPECT_EQ(ProxyLabel(Url("http://[2001:db8::1]:3128")), "[2001:db8::1]:3128 (http)");
  EXPECT_EQ(ProxyLabel(Url("https://u:p@proxy.test:3128")), "proxy.test:3128 (https)");
  EXPECT_EQ(ProxyLabel(Url("socks5+unix:///run/tor/socks")), "/run/tor/socks (socks5)");
  policy::ProxyUrl tls = Url("socks5h://10.88.0.1:9050");
  tls.tls = true;
  EXPECT_EQ(ProxyLabel(tls), "10.88.0.1:9050 (socks5h+tls)");
}

}  // namespace
}  // namespace oakum::agent
