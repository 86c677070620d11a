#include "hook/engine_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

namespace oakum::hook {
namespace {

using testing::HasSubstr;

TEST(EngineRecord, FindsTheStorageRootOfEveryLayout) {
  EXPECT_EQ(StorageRoot("/var/lib/docker/overlay2/abc/merged"), "/var/lib/docker");
  EXPECT_EQ(StorageRoot("/var/lib/docker/vfs/dir/abc"), "/var/lib/docker");
  EXPECT_EQ(StorageRoot("/var/lib/docker/231072.231072/overlay2/abc/merged"),
            "/var/lib/docker/231072.231072");
  EXPECT_EQ(StorageRoot("rootfs"), "");
  EXPECT_EQ(StorageRoot("/a/b/c"), "");
  EXPECT_EQ(StorageRoot(""), "");
}

TEST(EngineRecord, ReadsDockersRecord) {
  const auto record = ParseDockerRecord(
      R"({"ID":"abc","Name":"/web","Config":{"Image":"nginx","Labels":{"app":"x"}},"Image":"sha256:1"})",
      "abc");
  ASSERT_TRUE(record) << record.error().what;
  EXPECT_EQ(*record, (EngineRecord{.id = "abc",
                                   .name = "web",
                                   .image = "docker.io/library/nginx:latest",
                                   .labels = {{"app", "x"}}}));
  const auto bare = ParseDockerRecord(
      R"({"ID":"abc","Name":"/web","Config":{"Image":"sha256:1","Labels":null}})", "abc");
  ASSERT_TRUE(bare);
  EXPECT_EQ(bare->image, "sha256:1");
}

TEST(EngineRecord, RefusesAnotherContainersRecord) {
  for (const char* text :
       {R"({"ID":"other","Name":"/web","Config":{}})", R"({"Name":"/web","Config":{}})",
        R"({"ID":"abc","Config":{}})", R"({"ID":"abc","Name":"/web"})", "[]", "{",
        R"({"ID":"abc","Name":"/web","Config":{"Labels":{"a":1}}})",
        R"({"ID":"x","ID":"abc","Name":"/web","Config":{}})"}) {
    EXPECT_FALSE(ParseDockerRecord(text, "abc")) << text;
  }
}

constexpr char kContainers[] = R"([
  {"id":"1","names":["a"],"layer":"l1","metadata":"{\"image-name\":\"docker.io/library/nginx:latest\",\"name\":\"a\"}"},
  {"id":"2","names":["b"],"layer":"","metadata":"{\"name\":\"b\"}"}])";

TEST(EngineRecord, FindsPodmansRecordByIdOrLayer) {
  const auto by_id = FindPodmanRecord(kContainers, "2", "");
  ASSERT_TRUE(by_id) << by_id.error().what;
  EXPECT_EQ(by_id->name, "b");
  EXPECT_EQ(by_id->image, "");
  const auto by_layer = FindPodmanRecord(kContainers, "", "l1");
  ASSERT_TRUE(by_layer) << by_layer.error().what;
  EXPECT_EQ(by_layer->id, "1");
  EXPECT_EQ(by_layer->image, "docker.io/library/nginx:latest");
}

TEST(EngineRecord, AnEmptyLayerIsNobodys) {
  EXPECT_EQ(FindPodmanRecord(kContainers, "", "").error().code, ENOENT);
  EXPECT_EQ(FindPodmanRecord(kContainers, "3", "").error().code, ENOENT);
  EXPECT_EQ(FindPodmanRecord("{}", "3", "").error().code, EINVAL);
  EXPECT_EQ(FindPodmanRecord(R"([{"id":"3","metadata":"nonsense"}])", "3", "").error().code,
            EINVAL);
}

TEST(EngineRecord, WritesImageNamesInFull) {
  EXPECT_EQ(FullImageName("nginx"), "docker.io/library/nginx:latest");
  EXPECT_EQ(FullImageName("nginx:1.25"), "docker.io/library/nginx:1.25");
  EXPECT_EQ(FullImageName("me/app"), "docker.io/me/app:latest");
  EXPECT_EQ(FullImageName("quay.io/me/app:2"), "quay.io/me/app:2");
  EXPECT_EQ(FullImageName("localhost/app"), "localhost/app:latest");
  EXPECT_EQ(FullImageName("host:5000/app"), "host:5000/app:latest");
  EXPECT_EQ(FullImageName("nginx@sha256:12"), "docker.io/library/nginx@sha256:12");
  EXPECT_EQ(FullImageName("sha256:12"), "sha256:12");
  EXPECT_EQ(FullImageName(""), "");
}

class EngineFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = testing::TempDir() + "oakum-record-XXXXXX";
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
    path_ = pattern + "/record.json";
    std::ofstream(path_) << "text";
    ASSERT_EQ(chmod(path_.c_str(), 0600), 0);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }
  std::string directory_;
  std::string path_;
};

TEST_F(EngineFile, IsReadWhenOnlyItsOwnerMayWrite) {
  const auto text = ReadEngineFile(path_);
  ASSERT_TRUE(text) << text.error().what;
  EXPECT_EQ(*text, "text");
}

TEST_F(EngineFile, IsNotBelievedOtherwise) {
  ASSERT_EQ(chmod(path_.c_str(), 0620), 0);
  EXPECT_EQ(ReadEngineFile(path_).error().code, EPERM);
  ASSERT_EQ(chmod(path_.c_str(), 0602), 0);
  EXPECT_EQ(ReadEngineFile(path_).error().code, EPERM);
  const std::string link = path_ + ".link";
  ASSERT_EQ(chmod(path_.c_str(), 0600), 0);
  ASSERT_EQ(symlink(path_.c_str(), link.c_str()), 0);
  EXPECT_EQ(ReadEngineFile(link).error().code, ELOOP);
  if (geteuid() == 0) {
    ASSERT_EQ(chown(path_.c_str(), 12345, 12345), 0);
    EXPECT_EQ(ReadEngineFile(path_).error().code, EPERM);
  }
  EXPECT_EQ(ReadEngineFile(path_ + ".none").error().code, ENOENT);
}

}  // namespace
}  // namespace oakum::hook
