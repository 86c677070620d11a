// Loading files and directories, and which container gets which policy.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>

#include "policy_testing.h"

namespace oakum::policy {
namespace {

using testing::MustParse;

class Directory {
 public:
  Directory() {
    char name[] = "/tmp/oakum-policy-test-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~Directory() { std::filesystem::remove_all(path_); }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;

  void Write(const std::string& name, std::string_view text) const {
    std::ofstream(path_ + "/" + name) << text;
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(LoadTest, ADirectoryIsOneNameSpace) {
  const Directory directory;
  directory.Write("20-containers.json",
                  R"({"version": 1, "containers": [{"match": {}, "policy": "b"}]})");
  directory.Write("10-policies.jsonc",
                  R"({"version": 1, // comment
                      "policies": {"a": {"mode": "audit", "proxy": "tor"}, "b": {"mode": "kill"}},
                      "containers": [{"match": {"name": "x"}, "policy": "a"}]})");
  directory.Write("30-proxies.json",
                  R"({"version": 1, "proxies": {"tor": {"url": "socks5://10.0.0.1:9050"}}})");
  directory.Write("notes.txt", "not a policy");
  directory.Write(".hidden.json", "not a policy");
  const auto set = PolicySet::Load(directory.path());
  ASSERT_TRUE(set) << set.error().what;
  EXPECT_EQ((*set)->names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ((*set)->container_rules(), 2U);
  ContainerFacts facts;
  EXPECT_EQ((*(*set)->Match(facts))->name(), "b");
  facts.name = "x";
  EXPECT_EQ((*(*set)->Match(facts))->name(), "a");
  EXPECT_EQ((*set)->Choose(facts)->rule, directory.path() + "/10-policies.jsonc:3");
}

TEST(LoadTest, Refuses) {
  const Directory directory;
  EXPECT_EQ(PolicySet::Load(directory.path() + "/none").error().code, ENOENT);
  EXPECT_EQ(PolicySet::Load(directory.path()).error().what,
            directory.path() + ": no *.json or *.jsonc in this directory");
  directory.Write("a.json", R"({"version": 1, "policies": {"p": {"mode": "audit"}}})");
  EXPECT_TRUE(PolicySet::Load(directory.path()));
  directory.Write("b.json", R"({"version": 1, "policies": {"p": {"mode": "kill"}}})");
  EXPECT_EQ(PolicySet::Load(directory.path()).error().what,
            directory.path() + "/b.json:1:29: a policy \"p\" stands already at " +
                directory.path() + "/a.json:1:29");
  directory.Write("b.json", "{");
  EXPECT_EQ(PolicySet::Load(directory.path()).error().what,
            directory.path() +
                "/b.json:1:2: expected a key in double quotes, found the end of "
                "the file");
  std::filesystem::create_directory(directory.path() + "/c.json");
  EXPECT_FALSE(PolicySet::Load(directory.path()));
}

TEST(LoadTest, OneFile) {
  const Directory directory;
  directory.Write("any.name",
                  R"({"version": 1, "policies": {"p": {"mode": "audit", "log": "all"}}})");
  const auto set = PolicySet::Load(directory.path() + "/any.name");
  ASSERT_TRUE(set) << set.error().what;
  ASSERT_NE((*set)->Find("p"), nullptr);
  EXPECT_EQ((*set)->Find("p")->mode(), Mode::kAudit);
  EXPECT_EQ((*set)->Find("p")->log(), LogLevel::kAll);
  EXPECT_EQ((*set)->Find("q"), nullptr);
}

constexpr std::string_view kRules = R"({"version": 1,
  "policies": {"a": {"mode": "audit"}, "b": {"mode": "audit"}, "c": {"mode": "audit"},
               "d": {"mode": "audit"}},
  "containers": [
    {"match": {"annotation": {"io.oakum.policy": "*"}, "namespace": "dev-*"},
     "policy": "$io.oakum.policy"},
    {"match": {"image": "docker.io/library/nginx*", "engine": "podman"}, "policy": "a"},
    {"match": {"label": {"app": "db", "tier": "?"}}, "policy": "b"},
    {"match": {"pod": "web-*", "id": "0123*"}, "policy": "c"},
    {"match": {"name": "*"}, "policy": "d"}
  ]})";

TEST(MatchTest, FirstMatchWins) {
  const auto set = MustParse(kRules);
  const auto match = [&](const ContainerFacts& facts) {
    const auto policy = set->Match(facts);
    return policy ? (*policy)->name() : "error: " + policy.error().what;
  };
  ContainerFacts facts;
  EXPECT_EQ(set->Match(facts).error().code, ENOENT);
  EXPECT_NE(match(facts).find("no rule in \"containers\" matches this container"),
            std::string::npos);
  facts.name = "n";
  EXPECT_EQ(match(facts), "d");
  facts.pod = "web-1";
  EXPECT_EQ(match(facts), "d");
  facts.id = "012345";
  EXPECT_EQ(match(facts), "c");
  facts.labels = {{"app", "db"}};
  EXPECT_EQ(match(facts), "c");
  facts.labels["tier"] = "1";
  EXPECT_EQ(match(facts), "b");
  facts.labels["tier"] = "12";
  EXPECT_EQ(match(facts), "c");
  facts.image = "docker.io/library/nginx:1";
  EXPECT_EQ(match(facts), "c");
  facts.engine = "podman";
  EXPECT_EQ(match(facts), "a");
}

TEST(MatchTest, AnAnnotationChoosesOnlyWhereTheOperatorLetsIt) {
  const auto set = MustParse(kRules);
  ContainerFacts facts;
  facts.name = "n";
  facts.annotations["io.oakum.policy"] = "b";
  EXPECT_EQ((*set->Match(facts))->name(), "d");
  facts.ns = "prod";
  EXPECT_EQ((*set->Match(facts))->name(), "d");
  facts.ns = "dev-1";
  EXPECT_EQ((*set->Match(facts))->name(), "b");
  // A policy that does not exist never falls through to the next rule.
  for (const char* name : {"bb", "", "$io.oakum.policy"}) {
    facts.annotations["io.oakum.policy"] = name;
    const auto policy = set->Match(facts);
    ASSERT_FALSE(policy) << name;
    EXPECT_EQ(policy.error().code, ENOENT);
    EXPECT_NE(policy.error().what.find("which does not exist (rule at test.json:5)"),
              std::string::npos)
        << policy.error().what;
  }
}

}  // namespace
}  // namespace oakum::policy
