// Globs, suggestions, listener metadata and the configuration file.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/config.h"
#include "policy/container.h"
#include "policy/glob.h"
#include "policy/suggest.h"

namespace oakum::policy {
namespace {

TEST(GlobTest, Names) {
  for (const auto& [pattern, text] : std::vector<std::pair<std::string_view, std::string_view>>{
           {"a", "a"},
           {"*", ""},
           {"*", "anything/at:all"},
           {"docker.io/library/nginx*", "docker.io/library/nginx:1.25"},
           {"*/nginx", "registry/x/nginx"},
           {"a*b*c", "a-b-b-c"},
           {"a?c", "abc"},
           {"a?c", "a/c"},
           {"**", "x"},
           {"*aab", "aaaab"}}) {
    EXPECT_TRUE(MatchesGlob(pattern, text)) << pattern << " " << text;
  }
  for (const auto& [pattern, text] :
       std::vector<std::pair<std::string_view, std::string_view>>{{"a", ""},
                                                                  {"a", "ab"},
                                                                  {"a", "A"},
                                                                  {"a?c", "ac"},
                                                                  {"a*b", "a-c"},
                                                                  {"", "a"},
                                                                  {"?", ""}}) {
    EXPECT_FALSE(MatchesGlob(pattern, text)) << pattern << " " << text;
  }
}

TEST(GlobTest, Paths) {
  for (const auto& [pattern, text] :
       std::vector<std::pair<std::string_view, std::string_view>>{{"/run/*.sock", "/run/a.sock"},
                                                                  {"/run/*/s", "/run/a/s"},
                                                                  {"/**/s", "/a/b/s"},
                                                                  {"/**", "/"},
                                                                  {"/a/**", "/a/b"},
                                                                  {"/*/b*/c", "/a/bb/c"},
                                                                  {"/**x*/z", "/a/x/xy/z"},
                                                                  {"@*", "@a/b"},
                                                                  {"@?", "@/"}}) {
    EXPECT_TRUE(MatchesPathGlob(pattern, text)) << pattern << " " << text;
  }
  for (const auto& [pattern, text] :
       std::vector<std::pair<std::string_view, std::string_view>>{{"/run/*.sock", "/run/a/b.sock"},
                                                                  {"/run/?", "/run//"},
                                                                  {"/*", "/a/b"},
                                                                  {"/a/**", "/a"},
                                                                  {"/*/c", "/a/b/c"},
                                                                  {"/**x*/z", "/a/x/y/q/z"}}) {
    EXPECT_FALSE(MatchesPathGlob(pattern, text)) << pattern << " " << text;
  }
}

TEST(GlobTest, HostilePatternsEnd) {
  std::string pattern = "/";
  for (int i = 0; i < 100; ++i) {
    pattern += "*a";
  }
  EXPECT_FALSE(MatchesPathGlob(pattern + "b", "/" + std::string(4000, 'a')));
  EXPECT_FALSE(MatchesGlob(pattern + "b", "/" + std::string(4000, 'a')));
}

TEST(SuggestTest, Nearest) {
  constexpr std::array<std::string_view, 4> kWords = {"outgoing", "incoming", "dns", "mode"};
  EXPECT_EQ(Nearest("outgoin", kWords), "outgoing");
  EXPECT_EQ(Nearest("Outgoing", kWords), "outgoing");
  EXPECT_EQ(Nearest("otugoing", kWords), "outgoing");
  EXPECT_EQ(Nearest("incomming", kWords), "incoming");
  EXPECT_EQ(Nearest("dn", kWords), "dns");
  EXPECT_EQ(Nearest("x", kWords), "");
  EXPECT_EQ(Nearest("", kWords), "");
  EXPECT_EQ(Nearest(std::string(10000, 'o'), kWords), "");
  EXPECT_EQ(DidYouMean("mod", kWords), "; did you mean \"mode\"?");
  EXPECT_EQ(DidYouMean("zebra", kWords),
            "; known are \"outgoing\", \"incoming\", \"dns\", \"mode\"");
  EXPECT_EQ(DidYouMean("zebra", {}), "");
}

TEST(MetadataTest, ComesBackAsItWas) {
  ListenerMetadata metadata{.policy = "tor-only", .facts = {}};
  metadata.facts.engine = "podman";
  metadata.facts.id = "0123";
  metadata.facts.name = "we\"b\n\u00e9";
  metadata.facts.image = "docker.io/library/nginx:1";
  metadata.facts.ns = "dev";
  metadata.facts.pod = "web-1";
  const std::string text = EncodeListenerMetadata(metadata);
  EXPECT_EQ(text.find('\n'), std::string::npos);
  const auto decoded = DecodeListenerMetadata(text);
  ASSERT_TRUE(decoded) << decoded.error().what;
  EXPECT_EQ(decoded->policy, metadata.policy);
  EXPECT_EQ(decoded->facts, metadata.facts);
}

TEST(MetadataTest, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ(EncodeListenerMetadata({.policy = "p", .facts = {}}), R"({"oakum":1,"policy":"p"})");
  ListenerMetadata odd{.policy = "p", .facts = {}};
  odd.facts.name = "\xff";
  EXPECT_EQ(EncodeListenerMetadata(odd), "{\"oakum\":1,\"policy\":\"p\",\"name\":\"\ufffd\"}")
      << "replaced, not thrown";
}

TEST(MetadataTest, RefusesWhatIsNotOurs) {
  for (const char* text :
       {"", "x", "[]", "{}", R"({"policy":"p"})", R"({"oakum":2,"policy":"p"})",
        R"({"oakum":"1","policy":"p"})", R"({"oakum":1})", R"({"oakum":1,"policy":""})",
        R"({"oakum":1,"policy":7})", R"({"oakum":1,"policy":"p","name":[]})",
        R"({"oakum":1,"policy":"p"} x)", R"({"oakum":1,"policy":"p","policy":"q"})"}) {
    const auto decoded = DecodeListenerMetadata(text);
    ASSERT_FALSE(decoded) << text;
    EXPECT_EQ(decoded.error().code, EINVAL);
  }
  EXPECT_TRUE(DecodeListenerMetadata(R"({"oakum":1,"policy":"p","later":true})"));
}

TEST(ConfigTest, Parses) {
  const auto config = ParseConfig(
      "{\n // which\n \"runtime\": \"crun\", \"socket\": \"/s\", \"policy\": \"/p\"}", "c");
  ASSERT_TRUE(config) << config.error().what;
  EXPECT_EQ(config->runtime, "crun");
  EXPECT_EQ(config->socket, "/s");
  EXPECT_EQ(config->policy, "/p");
  const auto defaults = ParseConfig("{}", "c");
  ASSERT_TRUE(defaults);
  EXPECT_EQ(defaults->runtime, "");
  EXPECT_EQ(defaults->socket, "/run/oakum/agent.sock");
  EXPECT_EQ(defaults->policy, "/etc/oakum/policy.d");
}

TEST(ConfigTest, WaitKillable) {
  EXPECT_EQ(ParseConfig("{}", "c")->wait_killable, WaitKillable::kAuto);
  EXPECT_EQ(ParseConfig(R"({"wait_killable": "auto"})", "c")->wait_killable, WaitKillable::kAuto);
  EXPECT_EQ(ParseConfig(R"({"wait_killable": "on"})", "c")->wait_killable, WaitKillable::kOn);
  EXPECT_EQ(ParseConfig(R"({"wait_killable": "off"})", "c")->wait_killable, WaitKillable::kOff);
}

TEST(ConfigTest, SaysWhatIsWrong) {
  const auto error = [](std::string_view text) {
    const auto config = ParseConfig(text, "c.json");
    return config ? std::string("(parsed)") : config.error().what;
  };
  EXPECT_EQ(error("[]"), "c.json:1:1: the configuration must be an object");
  EXPECT_EQ(error("{\"sokcet\": \"/s\"}"),
            "c.json:1:2: unknown key \"sokcet\"; did you mean \"socket\"?");
  EXPECT_EQ(error("{\"socket\": 1}"), "c.json:1:12: \"socket\" must be a string, not a number");
  EXPECT_EQ(error("{\"socket\": \"s\"}"), "c.json:1:12: \"socket\" must be an absolute path");
  EXPECT_EQ(error("{\"runtime\": \"./runc\"}"),
            "c.json:1:13: \"runtime\" must be a name, such as \"runc\", or an absolute path");
  EXPECT_EQ(error("{\"wait_killable\": \"yes\"}"),
            "c.json:1:19: \"wait_killable\" must be \"auto\", \"on\" or \"off\"");
  EXPECT_EQ(error("{\"wait_killable\": true}"),
            "c.json:1:19: \"wait_killable\" must be a string, not true or false");
  EXPECT_EQ(error("{\"policy\": \"\"}"),
            "c.json:1:12: \"policy\" is empty; leave the key out instead");
}

TEST(ConfigTest, WhereItIsLookedFor) {
  char directory[] = "/tmp/oakum-config-test-XXXXXX";
  ASSERT_NE(mkdtemp(directory), nullptr);
  const std::string path = std::string(directory) + "/config.json";
  std::ofstream(path) << R"({"runtime": "crun"})";
  EXPECT_EQ(LoadConfig(path, nullptr)->runtime, "crun");
  EXPECT_EQ(LoadConfig(std::nullopt, path.c_str())->runtime, "crun");
  EXPECT_EQ(LoadConfig(path, "/nowhere")->runtime, "crun");
  const auto missing = LoadConfig(std::nullopt, "/nowhere");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ENOENT);
  EXPECT_FALSE(LoadConfig("/nowhere", path.c_str()));
  std::filesystem::remove_all(directory);
}

}  // namespace
}  // namespace oakum::policy
