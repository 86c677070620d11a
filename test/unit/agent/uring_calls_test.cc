#include "agent/calls/uring_calls.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "agent/caller/socket_kinds.h"
#include "base/unique_fd.h"

namespace oakum::agent {
namespace {

UniqueFd MakeSocket(int domain, int type) {
  return UniqueFd(socket(domain, type | SOCK_CLOEXEC, 0));
}

bool KernelIsAtLeast(int major, int minor) {
  utsname names = {};
  int is_major = 0;
  int is_minor = 0;
  return uname(&names) == 0 && sscanf(names.release, "%d.%d", &is_major, &is_minor) == 2 &&
         (is_major > major || (is_major == major && is_minor >= minor));
}

class UringCallsTest : public testing::Test {
 protected:
  void SetUp() override {
    auto created = UringCalls::Create(true);
    if (!created) {
      GTEST_SKIP() << "io_uring is switched off: " << created.error().ToString();
    }
    calls_ = std::move(*created);
  }
  // Connects to a port of loopback that listens, and to one that does not.
  void ExpectConnects() {
    const UniqueFd listener = MakeSocket(AF_INET, SOCK_STREAM);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    ASSERT_EQ(bind(listener.get(), generic, length), 0);
    ASSERT_EQ(getsockname(listener.get(), generic, &length), 0);
    const UniqueFd refused = MakeSocket(AF_INET, SOCK_STREAM);
    EXPECT_EQ(calls_->Connect(refused.get(), generic, length), ECONNREFUSED);
    ASSERT_EQ(listen(listener.get(), 4), 0);
    const UniqueFd accepted = MakeSocket(AF_INET, SOCK_STREAM);
    EXPECT_EQ(calls_->Connect(accepted.get(), generic, length), 0);
  }

  std::unique_ptr<UringCalls> calls_;
};

TEST_F(UringCallsTest, ReadsWhatASocketIs) {
  if (!KernelIsAtLeast(6, 7)) {
    GTEST_SKIP() << "needs Linux 6.7";
  }
  struct Case {
    int domain, type, protocol;
  };
  for (int round = 0; round < 3; ++round) {
    for (const Case& of :
         {Case{AF_INET, SOCK_STREAM, IPPROTO_TCP}, Case{AF_INET6, SOCK_STREAM, IPPROTO_TCP},
          Case{AF_INET, SOCK_DGRAM, IPPROTO_UDP}, Case{AF_INET6, SOCK_DGRAM, IPPROTO_UDP},
          Case{AF_UNIX, SOCK_STREAM, 0}, Case{AF_UNIX, SOCK_SEQPACKET, 0},
          Case{AF_NETLINK, SOCK_RAW, 0}}) {
      const UniqueFd fd = MakeSocket(of.domain, of.type);
      const auto kind = calls_->ReadKind(fd.get());
      ASSERT_TRUE(kind);
      EXPECT_EQ(kind->domain, of.domain);
      EXPECT_EQ(kind->type, of.type);
      EXPECT_EQ(kind->protocol, of.protocol);
      ExpectConnects();
    }
  }
}

// What an older kernel says to the request it says to one for another file.
TEST_F(UringCallsTest, WhereThatDoesNotWorkEverythingElseDoes) {
  const UniqueFd file(open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_FALSE(calls_->ReadKind(file.get()));
  ExpectConnects();
  EXPECT_FALSE(calls_->ReadKind(-1));
  ExpectConnects();
  const UniqueFd socket = MakeSocket(AF_INET, SOCK_DGRAM);
  SocketKinds kinds;
  SocketKind kind;
  uint64_t cookie = 0;
  ASSERT_EQ(kinds.Read(socket.get(), kind, cookie, calls_.get()), 0);
  EXPECT_EQ(kind.domain, AF_INET);
  EXPECT_EQ(kind.type, SOCK_DGRAM);
  EXPECT_EQ(kind.protocol, IPPROTO_UDP);
}

// A device of the container's may take the request for one of its own.
TEST_F(UringCallsTest, NothingButASocketIsAsked) {
  SocketKinds kinds;
  SocketKind kind;
  uint64_t cookie = 0;
  struct : KindReader {
    std::optional<SocketKind> ReadKind(int /*socket_fd*/) override {
      asked = true;
      return std::nullopt;
    }
    bool asked = false;
  } at_once;
  const UniqueFd file(open("/dev/null", O_RDWR | O_CLOEXEC));
  EXPECT_EQ(kinds.Read(file.get(), kind, cookie, &at_once), ENOTSOCK);
  const UniqueFd path(open("/dev/null", O_PATH | O_CLOEXEC));
  EXPECT_EQ(kinds.Read(path.get(), kind, cookie, &at_once), EBADF);
  EXPECT_FALSE(at_once.asked);
  const UniqueFd socket = MakeSocket(AF_INET, SOCK_STREAM);
  EXPECT_EQ(kinds.Read(socket.get(), kind, cookie, &at_once), 0);
  EXPECT_TRUE(at_once.asked);
}

}  // namespace
}  // namespace oakum::agent
