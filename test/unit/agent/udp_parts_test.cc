// The pure parts of datagrams that are carried: the relay's header, control messages of 32-bit
// programs, and who is remembered.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "agent/udp/carried_sockets.h"
#include "agent/udp/received_message.h"
#include "agent/udp/socks_datagram.h"

namespace oakum::agent {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

policy::Endpoint At(const char* ip, uint16_t port) { return {*policy::IpAddress::Parse(ip), port}; }

TEST(SocksDatagramTest, HasTheHeaderOfRfc1928) {
  EXPECT_EQ(WrapDatagram({"", At("192.0.2.1", 258)}, "data"),
            "\0\0\0\x01\xc0\x00\x02\x01\x01\x02"
            "data"sv);
  EXPECT_EQ(WrapDatagram({"", At("2001:db8::1", 53)}, "x"),
            "\0\0\0\x04\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x35x"sv);
  EXPECT_EQ(WrapDatagram({"a.test", At("198.18.0.1", 443)}, ""),
            "\0\0\0\x03\x06"
            "a.test\x01\xbb"sv);
}

TEST(SocksDatagramTest, IsReadBack) {
  for (const ProxyTarget& target :
       {ProxyTarget{"", At("192.0.2.1", 258)}, ProxyTarget{"", At("2001:db8::1", 53)},
        ProxyTarget{"a.test", {policy::IpAddress(), 443}}}) {
    const std::string bytes = WrapDatagram(target, "payload");
    const auto read = UnwrapDatagram(bytes);
    ASSERT_TRUE(read.has_value());
    EXPECT_EQ(read->source.name, target.name);
    EXPECT_EQ(read->source.address, target.address);
    EXPECT_EQ(read->data, "payload");
    // A header that is cut is none.
    for (size_t size = 0; size < bytes.size() - 7; ++size) {
      EXPECT_FALSE(UnwrapDatagram(std::string_view(bytes).substr(0, size)).has_value()) << size;
    }
  }
}

TEST(SocksDatagramTest, FragmentsAndNonsenseAreDropped) {
  std::string bytes = WrapDatagram({"", At("192.0.2.1", 9)}, "x");
  bytes[2] = 1;
  EXPECT_FALSE(UnwrapDatagram(bytes).has_value());
  bytes[2] = 0;
  bytes[3] = 2;
  EXPECT_FALSE(UnwrapDatagram(bytes).has_value());
  EXPECT_FALSE(UnwrapDatagram("\0\0\0\x03\x00\x00\x09x"sv).has_value());  // a name of no length
}

// One native record.
std::vector<char> Record(int level, int type, std::string_view data) {
  std::vector<char> out(CMSG_SPACE(data.size()));
  cmsghdr header = {};
  header.cmsg_len = CMSG_LEN(data.size());
  header.cmsg_level = level;
  header.cmsg_type = type;
  memcpy(out.data(), &header, sizeof header);
  memcpy(out.data() + CMSG_LEN(0), data.data(), data.size());
  return out;
}

TEST(CompatControlTest, RecordsShrinkAsTheKernelsDo) {
  std::vector<char> native = Record(IPPROTO_IP, IP_TTL, "\x40\0\0\0"sv);
  const std::vector<char> info = Record(IPPROTO_IP, IP_PKTINFO, "0123456789ab"sv);
  native.insert(native.end(), info.begin(), info.end());
  const auto text = [](const std::vector<char>& bytes) {
    return std::string(bytes.begin(), bytes.end());
  };
  const std::string ttl = "\x10\0\0\0\0\0\0\0\x02\0\0\0\x40\0\0\0"s;
  const std::string pktinfo = "\x18\0\0\0\0\0\0\0\x08\0\0\0"s;
  bool truncated = true;
  EXPECT_EQ(text(ToCompatControl(native, 40, truncated)), ttl + pktinfo + "0123456789ab");
  EXPECT_FALSE(truncated);
  // As much of a record as there is room for, and its length says so.
  EXPECT_EQ(text(ToCompatControl(native, 30, truncated)), ttl + "\x0e" + pktinfo.substr(1) + "01");
  EXPECT_TRUE(truncated);
  EXPECT_EQ(text(ToCompatControl(native, 20, truncated)), ttl);
  EXPECT_TRUE(truncated);
}

TEST(CompatControlTest, TimesHaveNarrowFields) {
  const int64_t seconds = 1'700'000'000;
  const int64_t micros = 654'321;
  std::string data(16, '\0');
  memcpy(data.data(), &seconds, 8);
  memcpy(data.data() + 8, &micros, 8);
  bool truncated = false;
  const auto out = ToCompatControl(Record(SOL_SOCKET, SO_TIMESTAMP, data), 100, truncated);
  ASSERT_EQ(out.size(), 12U + 8U);
  int32_t value[2] = {};
  memcpy(value, out.data() + 12, sizeof value);
  EXPECT_EQ(value[0], seconds);
  EXPECT_EQ(value[1], micros);
}

TEST(CarriedSocketsTest, TellWhoHasSentAndWhatAGateMeans) {
  CarriedSockets sockets;
  EXPECT_TRUE(sockets.empty());
  sockets.Carry(7, 1, 4000, nullptr);
  sockets.SetGate(1, At("127.0.0.1", 5000), At("192.0.2.1", 53));
  EXPECT_FALSE(sockets.empty());
  EXPECT_EQ(sockets.FindSender(1, 4000)->cookie, 7U);
  EXPECT_FALSE(sockets.FindSender(2, 4000).has_value()) << "another network namespace";
  EXPECT_EQ(sockets.Meaning(7, At("127.0.0.1", 5000)), At("192.0.2.1", 53));
  EXPECT_FALSE(sockets.Meaning(7, At("127.0.0.1", 5001)).has_value());
  EXPECT_FALSE(sockets.Meaning(8, At("127.0.0.1", 5000)).has_value()) << "not carried";
  // The port goes to another socket, and the first one is bound anew.
  sockets.Carry(8, 1, 4000, nullptr);
  sockets.Carry(7, 1, 4001, nullptr);
  EXPECT_EQ(sockets.FindSender(1, 4000)->cookie, 8U);
  EXPECT_EQ(sockets.FindSender(1, 4001)->cookie, 7U);
  EXPECT_TRUE(sockets.Renew(7, 1, 4001));
  EXPECT_FALSE(sockets.Renew(7, 1, 4000));
}

TEST(CarriedSocketsTest, AreBounded) {
  CarriedSockets sockets;
  for (uint64_t cookie = 1; cookie <= 40'000; ++cookie) {
    sockets.Carry(cookie, 1, static_cast<uint16_t>(cookie), nullptr);
    sockets.SetGate(1, {policy::IpAddress(), static_cast<uint16_t>(cookie)}, {});
  }
  EXPECT_FALSE(sockets.IsCarried(1));
  EXPECT_FALSE(sockets.FindSender(1, 1).has_value());
  EXPECT_TRUE(sockets.IsCarried(40'000));
  EXPECT_FALSE(sockets.Meaning(40'000, {policy::IpAddress(), 1}).has_value());
  EXPECT_TRUE(sockets.Meaning(40'000, {policy::IpAddress(), 40'000}).has_value());
}

TEST(CarriedSocketsTest, GiveBackWhatWasKept) {
  CarriedSockets sockets;
  ReceivedMessage message;
  message.data = {'a'};
  sockets.Keep(7, message);
  EXPECT_FALSE(sockets.TakeKept(8, false).has_value());
  EXPECT_TRUE(sockets.TakeKept(7, true).has_value());
  EXPECT_EQ(sockets.TakeKept(7, false)->data, message.data);
  EXPECT_FALSE(sockets.TakeKept(7, false).has_value());
  for (int i = 0; i < 1000; ++i) {
    sockets.Keep(9, message);
  }
  int kept = 0;
  while (sockets.TakeKept(9, false)) {
    ++kept;
  }
  EXPECT_EQ(kept, 64);
}

}  // namespace
}  // namespace oakum::agent
