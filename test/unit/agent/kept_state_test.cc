#include "agent/kept/kept_state.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace oakum::agent {
namespace {

using ::testing::SizeIs;

TEST(KeptStateTest, ComesBackAsItWas) {
  KeptState state;
  state.container.id = "id\xff\x80\xc3\xa4";
  state.container.init_pid = 17;
  state.container.pid = 18;
  state.container.metadata = R"({"oakum": 1})";
  state.container.bundle = "/b";
  state.container.status = "creating";
  state.container.annotations = {{"a", "\x01 b"}, {"", "c"}};
  state.policy = "p";
  state.attached_ns = 1'700'000'000'000'000'001;
  state.root_path = "/r";
  state.mounts = MountNamespace{4, 5};
  state.resolv_conf = "";
  const auto back = DecodeKeptState(EncodeKeptState(state));
  ASSERT_TRUE(back.has_value()) << back.error().ToString();
  EXPECT_EQ(back->container.id, state.container.id);
  EXPECT_EQ(back->container.init_pid, 17);
  EXPECT_EQ(back->container.pid, 18);
  EXPECT_EQ(back->container.metadata, state.container.metadata);
  EXPECT_EQ(back->container.annotations, state.container.annotations);
  EXPECT_EQ(back->policy, "p");
  EXPECT_EQ(back->attached_ns, state.attached_ns);
  EXPECT_EQ(back->root_path, "/r");
  EXPECT_EQ(back->mounts, state.mounts);
  EXPECT_EQ(back->resolv_conf, "");
  const std::vector<RememberedFile> files = {{"/a\xfe", {1, 2, -3, 4}}};
  const auto remembered = DecodeRemembered(EncodeRemembered(files));
  ASSERT_TRUE(remembered.has_value());
  ASSERT_THAT(*remembered, SizeIs(1));
  EXPECT_EQ(remembered->front().path, files.front().path);
  EXPECT_EQ(remembered->front().file, files.front().file);
  for (const char* bad :
       {"", "{}", "[]", R"({"id": 1})", R"({"id": "a", "annotations": {"b": 1}})"}) {
    EXPECT_FALSE(DecodeKeptState(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace oakum::agent
