#include "cli/request_text.h"

#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

namespace oakum::cli {
namespace {

using policy::Operation;
using policy::Transport;

std::vector<std::string> Split(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) {
    words.push_back(word);
  }
  return words;
}

policy::InetRequest Inet(const std::string& text) {
  const auto request = ParseRequest(Split(text));
  if (!request) {
    ADD_FAILURE() << request.error().what;
    return {};
  }
  return std::get<InetRequestText>(*request).inet;
}

std::string ErrorOf(const std::string& text) {
  const auto request = ParseRequest(Split(text));
  return request ? "(parsed)" : request.error().what;
}

TEST(RequestTextTest, Parses) {
  const policy::InetRequest connect = Inet("connect 10.1.2.3:443");
  EXPECT_EQ(connect.operation, Operation::kConnect);
  EXPECT_EQ(connect.transport, Transport::kTcp);
  EXPECT_EQ(connect.remote.ip.ToString(), "10.1.2.3");
  EXPECT_EQ(connect.remote.port, 443);
  EXPECT_EQ(Inet("connect [fd00::1]:443/udp").transport, Transport::kUdp);
  EXPECT_EQ(Inet("send 10.1.2.3:53").transport, Transport::kUdp);
  EXPECT_EQ(Inet("send 10.1.2.3/icmp").transport, Transport::kOther);
  EXPECT_EQ(Inet("listen 0.0.0.0:80").local.port, 80);
  const policy::InetRequest accept = Inet("accept 10.0.0.1:80 from [fd00::2]");
  EXPECT_EQ(accept.local.port, 80);
  EXPECT_EQ(accept.remote.ip.ToString(), "fd00::2");
  EXPECT_EQ(Inet("accept 10.0.0.1:80 from 10.0.0.2:4000").remote.port, 4000);
  EXPECT_EQ(std::get<UnixRequestText>(*ParseRequest(Split("unix @x"))).name, "@x");
}

TEST(RequestTextTest, Names) {
  const auto parse = [](const std::string& text) {
    return std::get<InetRequestText>(ParseRequest(Split(text)).value());
  };
  const InetRequestText name = parse("connect WWW.example.com.:443/udp");
  EXPECT_EQ(name.name, "www.example.com");
  EXPECT_FALSE(name.has_address);
  EXPECT_EQ(name.inet.remote.port, 443);
  EXPECT_EQ(name.inet.transport, Transport::kUdp);
  const InetRequestText both = parse("connect 10.0.0.1:80 as Example.com");
  EXPECT_EQ(both.name, "example.com");
  EXPECT_TRUE(both.has_address);
  EXPECT_EQ(both.inet.remote.ip.ToString(), "10.0.0.1");
  EXPECT_EQ(ErrorOf("connect 10.0.0.1:80 as 10.0.0.2"), "\"10.0.0.2\" is not a name");
  EXPECT_EQ(ErrorOf("connect 10.0.0.1:80 as a.b:80"), "\"a.b:80\" is not a name");
  EXPECT_EQ(ErrorOf("bind 10.0.0.1:80 as a.b"), "write: bind ADDRESS:PORT[/tcp|/udp|/icmp]");
  EXPECT_EQ(ErrorOf("connect a.b"), "\"a.b\" has no port; write ADDRESS:PORT");
  EXPECT_NE(ErrorOf("connect *.a.b:80"), "(parsed)");
}

TEST(RequestTextTest, Refuses) {
  EXPECT_EQ(ErrorOf(""), "no request; for example: connect 10.1.2.3:443/tcp");
  EXPECT_EQ(ErrorOf("connect"), "write: connect ADDRESS:PORT[/tcp|/udp|/icmp]");
  EXPECT_EQ(ErrorOf("connect 10.0.0.0/8:80"), "\"10.0.0.0/8:80\" is not one address");
  EXPECT_EQ(ErrorOf("connect *:80"), "\"*:80\" is not one address");
  EXPECT_EQ(ErrorOf("connect 10.0.0.1:80-90"), "\"10.0.0.1:80-90\" has more than one port");
  EXPECT_EQ(ErrorOf("bind example.com:80"),
            "\"example.com:80\" is a name; a request has an address, as the program's call has it");
  EXPECT_EQ(ErrorOf("accept 10.0.0.1:80"), "write: accept ADDRESS:PORT from ADDRESS");
  EXPECT_EQ(ErrorOf("unix run"), "write: unix /PATH, or: unix @NAME");
}

TEST(RequestTextTest, Containers) {
  const auto facts = ParseContainer(
      "name=a,image=b:1,namespace=c,pod=d,engine=e,id=f,label.x=1=2,annotation.io.y=z");
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->name, "a");
  EXPECT_EQ(facts->image, "b:1");
  EXPECT_EQ(facts->ns, "c");
  EXPECT_EQ(facts->pod, "d");
  EXPECT_EQ(facts->engine, "e");
  EXPECT_EQ(facts->id, "f");
  EXPECT_EQ(facts->labels.at("x"), "1=2");
  EXPECT_EQ(facts->annotations.at("io.y"), "z");
  EXPECT_FALSE(ParseContainer("name"));
  EXPECT_FALSE(ParseContainer("label.=x"));
  EXPECT_FALSE(ParseContainer("name=a,,image=b"));
}

}  // namespace
}  // namespace oakum::cli
