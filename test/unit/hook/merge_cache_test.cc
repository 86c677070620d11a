#include "hook/merge_cache.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "hook/guard.h"

namespace oakum::hook {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

constexpr char kSocket[] = "/run/oakum/agent.sock";

class MergeCacheTest : public testing::Test {
 protected:
  MergeCacheTest() {
    std::string name = fs::temp_directory_path() / "oakum-merged-XXXXXX";
    top_ = mkdtemp(name.data());
    directory_ = top_ / "merged";
  }
  ~MergeCacheTest() override { fs::remove_all(top_); }

  size_t Entries() const {
    return fs::exists(directory_) ? std::distance(fs::directory_iterator(directory_), {}) : 0;
  }

  fs::path OnlyEntry() const {
    EXPECT_EQ(Entries(), 1);
    return fs::directory_iterator(directory_)->path();
  }

  std::string Guarded(const std::string& denied, const std::string& id, const MergeCache* cache,
                      std::vector<std::string> flags = {}) const {
    const auto policies = policy::PolicySet::Parse(
        fmt::format(
            R"({{"version":1,"policies":{{"p":{{"mode":"enforce","{}":{{"default":"deny"}}}}}},)"
            R"("containers":[{{"match":{{}},"policy":"p"}}]}})",
            denied),
        "p.json");
    EXPECT_TRUE(policies);
    const Origin origin = {.bundle = "/b", .container_id = id};
    auto guarded =
        GuardConfig(config_, origin, **policies, kSocket, std::move(flags), cache, absent_);
    EXPECT_TRUE(guarded) << guarded.error().what;
    return guarded.value_or("");
  }

  std::vector<std::string> absent_;
  fs::path top_;
  fs::path directory_;
  std::string config_ =
      R"({"ociVersion":"1.0.2","linux":{"seccomp":{"defaultAction":"SCMP_ACT_ERRNO",)"
      R"("architectures":["SCMP_ARCH_X86_64"],"syscalls":[{"names":["connect","read"],)"
      R"("action":"SCMP_ACT_ALLOW"}]},"cgroupsPath":"/c"}})";
};

TEST_F(MergeCacheTest, AContainerIsGuardedTheSameWithAndWithoutIt) {
  const MergeCache cache(directory_);
  for (const char* denied : {"outgoing", "incoming"}) {
    for (const char* id : {"one", "two", "one"}) {
      EXPECT_EQ(Guarded(denied, id, &cache), Guarded(denied, id, nullptr));
    }
  }
  EXPECT_EQ(Entries(), 2);  // one a policy, whatever the container is called
  // Nor does another section, or another flag, find them.
  EXPECT_EQ(Guarded("outgoing", "one", &cache, {"SECCOMP_FILTER_FLAG_LOG"}),
            Guarded("outgoing", "one", nullptr, {"SECCOMP_FILTER_FLAG_LOG"}));
  config_.replace(config_.find("read"), 4, "recv");
  EXPECT_EQ(Guarded("outgoing", "one", &cache), Guarded("outgoing", "one", nullptr));
  EXPECT_EQ(Entries(), 4);
  // Nor does another kernel.
  absent_ = {"SCMP_ARCH_X32"};
  EXPECT_EQ(Guarded("outgoing", "one", &cache), Guarded("outgoing", "one", nullptr));
  EXPECT_EQ(Entries(), 5);
}

TEST_F(MergeCacheTest, WhatWasEditedBeforeIsNotKept) {
  const MergeCache cache(directory_);
  const std::string once = Guarded("outgoing", "one", &cache);
  config_ = once;
  EXPECT_EQ(Guarded("outgoing", "one", &cache), once);
  EXPECT_EQ(Entries(), 1);
}

TEST_F(MergeCacheTest, WhatIsKeptIsWhatIsUsed) {
  const MergeCache cache(directory_);
  (void)Guarded("outgoing", "one", &cache);
  const std::string text = *ReadFile(OnlyEntry(), MergeCache::kMaxEntry);
  const size_t key_size = std::stoul(text.substr(text.find(" 1 ") + 3, 16), nullptr, 16);
  const std::string key = text.substr(text.find('\n') + 1, key_size);
  cache.Store(key, R"({"defaultAction":"SCMP_ACT_KILL"})");
  EXPECT_THAT(Guarded("outgoing", "one", &cache),
              HasSubstr(R"({"defaultAction":"SCMP_ACT_KILL","listenerMetadata":)"));
}

TEST_F(MergeCacheTest, ItIsBelievedOnlyWhereNobodyElseCanWrite) {
  const MergeCache cache(directory_);
  cache.Store("key", "value");
  ASSERT_EQ(cache.Find("key"), "value");
  for (const mode_t mode : {S_IWGRP, S_IWOTH}) {
    ASSERT_EQ(chmod(directory_.c_str(), S_IRWXU | mode), 0);
    EXPECT_EQ(cache.Find("key"), std::nullopt);
    ASSERT_EQ(chmod(directory_.c_str(), S_IRWXU), 0);
    ASSERT_EQ(chmod(OnlyEntry().c_str(), S_IRUSR | S_IWUSR | mode), 0);
    EXPECT_EQ(cache.Find("key"), std::nullopt);
    ASSERT_EQ(chmod(OnlyEntry().c_str(), S_IRUSR | S_IWUSR), 0);
  }
  EXPECT_EQ(cache.Find("key"), "value");
  const fs::path entry = OnlyEntry();
  fs::rename(entry, top_ / "elsewhere");
  fs::create_symlink(top_ / "elsewhere", entry);
  EXPECT_EQ(cache.Find("key"), std::nullopt);
  fs::rename(directory_, top_ / "other");
  fs::create_symlink(top_ / "other", directory_);
  EXPECT_EQ(cache.Find("key"), std::nullopt);
  if (geteuid() == 0) {
    fs::remove(directory_);
    cache.Store("key", "value");
    ASSERT_EQ(cache.Find("key"), "value");
    ASSERT_EQ(chown(OnlyEntry().c_str(), 1234, 1234), 0);
    EXPECT_EQ(cache.Find("key"), std::nullopt);
    ASSERT_EQ(chown(directory_.c_str(), 1234, 1234), 0);
    cache.Store("other key", "value");
    EXPECT_EQ(Entries(), 1);
  }
}

TEST_F(MergeCacheTest, WhatWasCutOffOrIsAnothersIsNotTaken) {
  const MergeCache cache(directory_);
  cache.Store("key", "a longer value");
  const std::string whole = *ReadFile(OnlyEntry(), MergeCache::kMaxEntry);
  for (size_t size = 0; size < whole.size(); ++size) {
    std::ofstream(OnlyEntry()) << whole.substr(0, size);
    EXPECT_EQ(cache.Find("key"), std::nullopt) << size;
  }
  std::ofstream(OnlyEntry()) << whole << "more";
  EXPECT_EQ(cache.Find("key"), std::nullopt);
  std::string other = whole;
  other.replace(other.find("key"), 3, "yek");  // as if two keys had the same file
  std::ofstream(OnlyEntry()) << other;
  EXPECT_EQ(cache.Find("key"), std::nullopt);
  other = whole;
  other.back() = '\0';  // what never reached the disk
  std::ofstream(OnlyEntry()) << other;
  EXPECT_EQ(cache.Find("key"), std::nullopt);
  std::ofstream(OnlyEntry()) << whole;
  EXPECT_EQ(cache.Find("key"), "a longer value");
}

TEST_F(MergeCacheTest, ItIsBounded) {
  const MergeCache cache(directory_);
  cache.Store("big", std::string(MergeCache::kMaxEntry, 'x'));
  EXPECT_EQ(Entries(), 0);
  for (size_t i = 0; i < MergeCache::kMaxEntries + 10; ++i) {
    cache.Store(fmt::format("key {}", i), "value");
  }
  EXPECT_LE(Entries(), MergeCache::kMaxEntries);
  EXPECT_EQ(cache.Find(fmt::format("key {}", MergeCache::kMaxEntries + 9)), "value");
}

TEST_F(MergeCacheTest, WhereNothingCanBeKeptItOnlyTakesLonger) {
  const MergeCache cache("/proc/oakum-merged");
  EXPECT_EQ(Guarded("outgoing", "one", &cache), Guarded("outgoing", "one", nullptr));
}

}  // namespace
}  // namespace oakum::hook
