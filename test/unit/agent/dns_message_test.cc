// DNS messages: what is read, what is written, and what is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "agent/dns/host_name.h"
#include "agent/dns/message.h"
#include "test/unit/agent/dns_testing.h"

namespace oakum::agent::dns {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(DnsQuery, IsReadWithItsCaseKept) {
  const auto query = ReadQuery(QueryBytes(0x1234, "wWw.Example.COM", kTypeA));
  ASSERT_TRUE(query);
  EXPECT_EQ(query->error, Rcode::kNoError);
  EXPECT_EQ(query->id, 0x1234);
  EXPECT_EQ(query->name, "www.example.com");
  EXPECT_EQ(query->question, QuestionBytes("wWw.Example.COM", kTypeA));
  EXPECT_TRUE(query->recursion_desired);
  EXPECT_FALSE(query->edns);
  EXPECT_EQ(UdpLimit(*query), 512U);
}

TEST(DnsQuery, HasEdns) {
  const auto query = ReadQuery(Header(1, 0x0110, 1, 0, 0, 1) + QuestionBytes("a.b", kTypeAaaa) +
                               OptBytes(1232, 0, 0x8000));
  ASSERT_TRUE(query);
  EXPECT_TRUE(query->edns);
  EXPECT_TRUE(query->dnssec_ok);
  EXPECT_TRUE(query->checking_disabled);
  EXPECT_EQ(UdpLimit(*query), 1232U);
  EXPECT_EQ(UdpLimit(*ReadQuery(QueryBytes(1, "a.b", kTypeA, 100))), 512U);
  EXPECT_EQ(UdpLimit(*ReadQuery(QueryBytes(1, "a.b", kTypeA, 65535))), kMaxUdp);
}

TEST(DnsQuery, ThatIsNoneIsNotAnswered) {
  EXPECT_FALSE(ReadQuery(""));
  EXPECT_FALSE(ReadQuery(std::string(11, 'x')));
  EXPECT_FALSE(ReadQuery(Header(1, 0x8180, 1) + QuestionBytes("a.b", kTypeA)));
}

TEST(DnsQuery, IsRefusedAsAServerWould) {
  const std::string question = QuestionBytes("a.b", kTypeA);
  const struct {
    const char* what;
    std::string bytes;
    Rcode error;
  } cases[] = {
      {"no question", Header(1, 0x0100, 0), Rcode::kFormErr},
      {"two questions", Header(1, 0x0100, 2) + question + question, Rcode::kFormErr},
      {"bytes after the end", Header(1, 0x0100, 1) + question + "x", Rcode::kFormErr},
      {"fewer records than said", Header(1, 0x0100, 1, 0, 0, 1) + question, Rcode::kFormErr},
      {"two OPT records", Header(1, 0x0100, 1, 0, 0, 2) + question + OptBytes(512) + OptBytes(512),
       Rcode::kFormErr},
      {"OPT among the answers", Header(1, 0x0100, 1, 1) + question + OptBytes(512),
       Rcode::kFormErr},
      {"a later EDNS", Header(1, 0x0100, 1, 0, 0, 1) + question + OptBytes(512, 1),
       Rcode::kBadVers},
      {"a pointer in the question",
       Header(1, 0x0100, 1) + Bytes16(0xc00c) + Bytes16(kTypeA) + Bytes16(kClassIn),
       Rcode::kFormErr},
      {"a label type that is none",
       Header(1, 0x0100, 1) + std::string("\x41x\0", 3) + Bytes16(kTypeA) + Bytes16(kClassIn),
       Rcode::kFormErr},
      {"NOTIFY", Header(1, 0x2000, 1) + question, Rcode::kNotImp},
      {"UPDATE", Header(1, 0x2800, 1) + question, Rcode::kNotImp},
  };
  for (const auto& each : cases) {
    const auto query = ReadQuery(each.bytes);
    ASSERT_TRUE(query) << each.what;
    EXPECT_EQ(query->error, each.error) << each.what;
    const std::string answer = BuildAnswer(*query, query->error, {}, 512);
    EXPECT_EQ(ReadId(answer), 1) << each.what;
    EXPECT_EQ(answer[3] & 0xf, static_cast<int>(each.error) & 0xf) << each.what;
  }
}

TEST(DnsQuery, EveryTruncationIsRefused) {
  const std::string whole = QueryBytes(7, "www.example.com", kTypeA, 1232);
  for (size_t size = 0; size < whole.size(); ++size) {
    const auto query = ReadQuery(whole.substr(0, size));
    if (size < kHeaderSize) {
      EXPECT_FALSE(query) << size;
    } else {
      ASSERT_TRUE(query) << size;
      EXPECT_EQ(query->error, Rcode::kFormErr) << size;
    }
  }
}

TEST(DnsQuery, NamesAreTextOnlyWhereThatSaysAll) {
  const auto with_label = [](const std::string& label) {
    return ReadQuery(Header(1, 0x0100, 1) + static_cast<char>(label.size()) + label +
                     Wire("example.com") + Bytes16(kTypeA) + Bytes16(kClassIn));
  };
  EXPECT_EQ(with_label("a-b_9")->name, "a-b_9.example.com");
  for (const std::string& label :
       {std::string("a.b"), std::string("a\0b", 3), std::string("a b"), std::string("a:80"),
        std::string("\xc3\xa4"), std::string("a\r\nb"), std::string("*"), std::string("u@h")}) {
    const auto query = with_label(label);
    ASSERT_TRUE(query);
    EXPECT_EQ(query->error, Rcode::kNoError) << label;
    EXPECT_EQ(query->name, "") << label;
  }
  EXPECT_EQ(ReadQuery(Header(1, 0x0100, 1) + std::string(1, '\0') + Bytes16(2) + Bytes16(1))->name,
            "");
}

TEST(DnsQuery, LongestNames) {
  const std::string label(63, 'a');
  const std::string longest = label + "." + label + "." + label + "." + std::string(61, 'b');
  EXPECT_EQ(longest.size(), 253U);
  EXPECT_EQ(ReadQuery(QueryBytes(1, longest, kTypeA))->name, longest);
  EXPECT_FALSE(WireName(longest + "b"));
  EXPECT_FALSE(WireName(label + "a.com"));
  std::string wire;
  for (int i = 0; i < 4; ++i) {
    wire += '\x3f' + label;
  }
  wire.push_back('\0');
  EXPECT_EQ(ReadQuery(Header(1, 0x0100, 1) + wire + Bytes16(1) + Bytes16(1))->error,
            Rcode::kFormErr);
}

TEST(DnsAnswer, RepeatsTheQuestionAndIsRead) {
  const auto query = ReadQuery(QueryBytes(9, "WWW.example.com", kTypeA, 1232));
  const std::vector<Record> records = {AddressRecord(Ip("198.18.0.1"), 10),
                                       AddressRecord(Ip("198.18.0.2"), 7)};
  const std::string answer = BuildAnswer(*query, Rcode::kNoError, records, 512);
  EXPECT_EQ(answer.substr(kHeaderSize, query->question.size()), query->question);
  EXPECT_EQ(answer.substr(0, kHeaderSize), Header(9, 0x8180, 1, 2, 0, 1));
  EXPECT_EQ(answer.substr(answer.size() - 11), OptBytes(kMaxUdp));
  const auto reply = ReadReply(answer);
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->question, query->question);
  EXPECT_EQ(reply->name, "www.example.com");
  EXPECT_THAT(reply->addresses, ElementsAre(Ip("198.18.0.1"), Ip("198.18.0.2")));
  EXPECT_EQ(reply->ttl, 7U);
}

TEST(DnsAnswer, SaysWhenItDoesNotFit) {
  const auto query = ReadQuery(QueryBytes(9, "example.com", kTypeA, 600));
  const std::vector<Record> records(40, AddressRecord(Ip("198.18.0.1"), 10));
  const std::string answer = BuildAnswer(*query, Rcode::kNoError, records, UdpLimit(*query));
  EXPECT_LE(answer.size(), 512U);
  const auto reply = ReadReply(answer);
  ASSERT_TRUE(reply);
  EXPECT_TRUE(reply->truncated);
  EXPECT_THAT(reply->addresses, IsEmpty());
  const std::string whole = BuildAnswer(*query, Rcode::kNoError, records, kMaxMessage);
  EXPECT_EQ(ReadReply(whole)->addresses.size(), 40U);
  EXPECT_EQ(FitAnswer(*query, whole, kMaxMessage), whole);
  const auto fitted = ReadReply(FitAnswer(*query, whole, 512));
  ASSERT_TRUE(fitted);
  EXPECT_TRUE(fitted->truncated);
  EXPECT_EQ(fitted->question, query->question);
}

TEST(DnsReply, FollowsCnamesFromTheQuestion) {
  const std::string query = QueryBytes(3, "www.example.com", kTypeA);
  const auto reply = ReadReply(
      AnswerBytes(query, {RecordBytes("cdn.example.net", kTypeA, 300, IpBytes("192.0.2.1")),
                          RecordBytes("", kTypeCname, 20, Wire("x.example.org")),
                          RecordBytes("x.example.org", kTypeCname, 50, Wire("cdn.example.net")),
                          RecordBytes("bank.example", kTypeA, 5, IpBytes("192.0.2.66")),
                          RecordBytes("cdn.example.net", kTypeAaaa, 60, IpBytes("2001:db8::1"))}));
  ASSERT_TRUE(reply);
  EXPECT_EQ(reply->name, "www.example.com");
  EXPECT_THAT(reply->addresses, ElementsAre(Ip("192.0.2.1"), Ip("2001:db8::1")));
  EXPECT_EQ(reply->ttl, 20U);
}

TEST(DnsReply, AddressesOfOtherNamesAreNotTheQuestions) {
  const std::string query = QueryBytes(3, "www.example.com", kTypeA);
  const auto reply = ReadReply(
      AnswerBytes(query, {RecordBytes("bank.example", kTypeA, 5, IpBytes("192.0.2.66")),
                          RecordBytes("evil.example", kTypeCname, 5, Wire("www.example.com"))}));
  ASSERT_TRUE(reply);
  EXPECT_THAT(reply->addresses, IsEmpty());
}

TEST(DnsReply, LoopsEnd) {
  const std::string query = QueryBytes(3, "a.example", kTypeA);
  const auto cnames =
      ReadReply(AnswerBytes(query, {RecordBytes("a.example", kTypeCname, 5, Wire("b.example")),
                                    RecordBytes("b.example", kTypeCname, 5, Wire("a.example"))}));
  ASSERT_TRUE(cnames);
  EXPECT_THAT(cnames->addresses, IsEmpty());
  const std::string head = Header(3, 0x8180, 1, 1) + query.substr(kHeaderSize);
  const std::string tail = Bytes16(kTypeA) + Bytes16(1) + Bytes32(5) + Bytes16(4) + "abcd";
  const auto at = static_cast<unsigned>(head.size());
  EXPECT_FALSE(ReadReply(head + Bytes16(0xc000 | at) + tail));        // to itself
  EXPECT_FALSE(ReadReply(head + Bytes16(0xc000 | (at + 2)) + tail));  // forwards
  EXPECT_FALSE(ReadReply(head + Bytes16(0xc002) + tail));             // into the header
  EXPECT_TRUE(ReadReply(head + Bytes16(0xc00c) + tail));
  // A long chain of pointers, each to the one before it.
  std::string chain =
      head + Wire("x") + Bytes16(kTypeA) + Bytes16(1) + Bytes32(5) + Bytes16(400) + Bytes16(0xc00c);
  for (int i = 0; i < 199; ++i) {
    chain += Bytes16(0xc000 | static_cast<unsigned>(chain.size() - 2));
  }
  std::string with_chain = chain;
  with_chain[7] = 2;
  with_chain += Bytes16(0xc000 | static_cast<unsigned>(chain.size() - 2)) + tail;
  EXPECT_FALSE(ReadReply(with_chain));
}

TEST(DnsReply, EveryTruncationIsRefused) {
  const std::string whole =
      AnswerBytes(QueryBytes(3, "www.example.com", kTypeA),
                  {RecordBytes("", kTypeCname, 20, Wire("x.example.org")),
                   RecordBytes("x.example.org", kTypeA, 300, IpBytes("192.0.2.1"))});
  ASSERT_TRUE(ReadReply(whole));
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(ReadReply(whole.substr(0, size))) << size;
  }
}

TEST(DnsReply, RandomBytesAreHarmless) {
  std::mt19937 random(20240607);
  const std::string whole =
      AnswerBytes(QueryBytes(3, "www.example.com", kTypeA),
                  {RecordBytes("", kTypeCname, 20, Wire("x.example.org")),
                   RecordBytes("x.example.org", kTypeA, 300, IpBytes("192.0.2.1"))});
  for (int i = 0; i < 100'000; ++i) {
    std::string bytes = whole;
    for (int change = 0; change < 3; ++change) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    (void)ReadReply(bytes);
    (void)ReadQuery(bytes);
  }
}

}  // namespace
}  // namespace oakum::agent::dns
