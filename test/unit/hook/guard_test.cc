#include "hook/guard.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/unique_fd.h"
#include "oci/json.h"

namespace oakum::hook {
namespace {

using testing::HasSubstr;

constexpr char kSocket[] = "/run/oakum/agent.sock";
constexpr char kConfig[] =
    R"({"ociVersion":"1.0.2","process":{"args":["x"]},"root":{"path":"rootfs"},"linux":{},"other":18446744073709551615})";

std::shared_ptr<const policy::PolicySet> Policies(const char* containers) {
  auto set = policy::PolicySet::Parse(
      fmt::format(
          R"({{"version":1,"policies":{{"strict":{{"mode":"enforce","outgoing":{{"default":"deny"}}}},)"
          R"("loose":{{"mode":"audit","outgoing":{{"default":"deny"}}}}}},"containers":{}}})",
          containers),
      "p.json");
  EXPECT_TRUE(set) << (set ? "" : set.error().what);
  return set ? *set : nullptr;
}

const Origin kByHand = {.bundle = "/home/me/bundle", .container_id = "abc"};

TEST(Guard, PutsTheFilterOfThePolicyIn) {
  const auto policies = Policies(R"([{"match":{"id":"abc"},"policy":"strict"}])");
  const auto guarded = GuardConfig(kConfig, kByHand, *policies, kSocket);
  ASSERT_TRUE(guarded) << guarded.error().what;
  const auto json = oci::ParseJson(*guarded, "config.json");
  ASSERT_TRUE(json);
  const oci::Json& seccomp = (*json)["linux"]["seccomp"];
  EXPECT_EQ(seccomp["listenerPath"], kSocket);
  const auto metadata =
      policy::DecodeListenerMetadata(seccomp["listenerMetadata"].get<std::string>());
  ASSERT_TRUE(metadata) << metadata.error().what;
  EXPECT_EQ(metadata->policy, "strict");
  EXPECT_EQ(metadata->facts.id, "abc");
  EXPECT_THAT(*guarded, HasSubstr("18446744073709551615"));
}

TEST(Guard, AContainerThatNoRuleMatchesIsRefused) {
  const auto policies = Policies(R"([{"match":{"name":"web"},"policy":"strict"}])");
  const auto guarded = GuardConfig(kConfig, kByHand, *policies, kSocket);
  ASSERT_FALSE(guarded);
  EXPECT_THAT(guarded.error().what, HasSubstr("no rule in \"containers\" matches"));
}

TEST(Guard, ARuleThatAsksForWhatIsNotKnownRefuses) {
  const auto policies = Policies(
      R"([{"match":{"label":{"net":"none"}},"policy":"strict"},{"match":{},"policy":"loose"}])");
  const Origin ctr = {.bundle = "/run/containerd/io.containerd.runtime.v2.task/default/abc",
                      .container_id = "abc"};
  const auto refused = GuardConfig(kConfig, ctr, *policies, kSocket);
  ASSERT_FALSE(refused) << "the weaker policy further down was taken";
  EXPECT_THAT(refused.error().what, HasSubstr("p.json:1 asks for the label"));
  EXPECT_TRUE(GuardConfig(kConfig, kByHand, *policies, kSocket));

  const auto limited = Policies(
      R"([{"match":{"engine":"docker","label":{"net":"none"}},"policy":"strict"},{"match":{},"policy":"loose"}])");
  EXPECT_TRUE(GuardConfig(kConfig, ctr, *limited, kSocket));
}

TEST(Guard, SomebodyElsesListenerIsRefused) {
  const auto policies = Policies(R"([{"match":{},"policy":"strict"}])");
  const auto guarded = GuardConfig(
      R"({"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/other.sock"}}})",
      kByHand, *policies, kSocket);
  ASSERT_FALSE(guarded);
  EXPECT_EQ(guarded.error().code, EBUSY);
  EXPECT_THAT(guarded.error().what, HasSubstr("/run/other.sock"));
}

TEST(Guard, AMalformedConfigSaysWhere) {
  const auto policies = Policies(R"([{"match":{},"policy":"strict"}])");
  for (const char* text : {"", "{", "[]", R"({"linux":)", R"({"annotations":{"a":1}})"}) {
    const auto guarded = GuardConfig(text, kByHand, *policies, kSocket);
    ASSERT_FALSE(guarded) << text;
    EXPECT_THAT(guarded.error().what, HasSubstr("config.json")) << text;
  }
}

TEST(Guard, SeesWhetherAnAgentListens) {
  std::string directory = testing::TempDir() + "oakum-guard-XXXXXX";
  ASSERT_NE(mkdtemp(directory.data()), nullptr);
  const std::string path = directory + "/agent.sock";
  auto checked = CheckAgent(path);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, ENOENT);
  EXPECT_THAT(checked.error().what, HasSubstr("the agent is not running"));
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  checked = CheckAgent(path);
  ASSERT_FALSE(checked);
  EXPECT_EQ(checked.error().code, ECONNREFUSED);
  ASSERT_EQ(listen(listener.get(), 1), 0);
  EXPECT_TRUE(CheckAgent(path));
  ASSERT_EQ(chmod(directory.c_str(), 0777), 0);
  EXPECT_EQ(CheckAgent(path).error().code, EPERM) << "it could be anybody's";
  unlink(path.c_str());
  rmdir(directory.c_str());
  EXPECT_EQ(CheckAgent(std::string(200, 'x')).error().code, ENAMETOOLONG);
}

}  // namespace
}  // namespace oakum::hook
