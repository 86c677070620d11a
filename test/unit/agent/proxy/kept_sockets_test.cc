#include "agent/proxy/kept_sockets.h"

#include <gtest/gtest.h>

#include <vector>

#include "agent/dns/names_file.h"

namespace oakum::agent {
namespace {

const policy::Endpoint kAsked = {*policy::IpAddress::Parse("192.0.2.7"), 443};

struct Seen {
  std::vector<KeptSockets::Peer> peers;
  std::vector<KeptSockets::Sender> senders;
};

Seen ReadAll(const KeptSockets& kept) {
  Seen seen;
  kept.Read([&](const KeptSockets::Peer& peer) { seen.peers.push_back(peer); },
            [&](const KeptSockets::Sender& sender) { seen.senders.push_back(sender); });
  return seen;
}

TEST(KeptSocketsTest, AreThereForWhoComesNext) {
  const UniqueFd file = NamesFile::Make();
  ASSERT_TRUE(file);
  {
    const auto kept = KeptSockets::In(file.get());
    ASSERT_NE(kept, nullptr);
    kept->Add(KeptSockets::Peer{7, kAsked});
    kept->Add(KeptSockets::Sender{8, 9, 1234, 10, 11, 12});
  }
  const auto next = KeptSockets::In(file.get());
  ASSERT_NE(next, nullptr);
  next->Add(KeptSockets::Peer{13, kAsked});
  const Seen seen = ReadAll(*next);
  ASSERT_EQ(seen.peers.size(), 2U);
  EXPECT_EQ(seen.peers[0].cookie, 7U);
  EXPECT_EQ(seen.peers[0].asked_for, kAsked);
  EXPECT_EQ(seen.peers[1].cookie, 13U);
  ASSERT_EQ(seen.senders.size(), 1U);
  EXPECT_EQ(seen.senders[0].cookie, 8U);
  EXPECT_EQ(seen.senders[0].netns, 9U);
  EXPECT_EQ(seen.senders[0].local_port, 1234);
  EXPECT_EQ(seen.senders[0].tid, 10);
  EXPECT_EQ(seen.senders[0].tgid, 11);
  EXPECT_EQ(seen.senders[0].start_time, 12U);
  // The names are where they were.
  EXPECT_TRUE(NamesFile::IsOne(file.get()));
}

TEST(KeptSocketsTest, TheOldestGiveWay) {
  const UniqueFd file = NamesFile::Make();
  const auto kept = KeptSockets::In(file.get());
  ASSERT_NE(kept, nullptr);
  for (uint64_t i = 1; i <= KeptSockets::kMaxRecords + 5; ++i) {
    kept->Add(KeptSockets::Peer{i, kAsked});
  }
  const Seen seen = ReadAll(*KeptSockets::In(file.get()));
  ASSERT_EQ(seen.peers.size(), KeptSockets::kMaxRecords);
  EXPECT_EQ(seen.peers.front().cookie, 6U);
  EXPECT_EQ(seen.peers.back().cookie, KeptSockets::kMaxRecords + 5);
}

}  // namespace
}  // namespace oakum::agent
