#include "hook/runtime_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace oakum::hook {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

using Words = std::vector<std::string>;

RuntimeCommand Parse(const Words& words) {
  auto command = ParseRuntimeCommand(words);
  EXPECT_TRUE(command) << (command ? "" : command.error().what);
  return command ? std::move(*command) : RuntimeCommand();
}

std::string ParseError(const Words& words) {
  const auto command = ParseRuntimeCommand(words);
  EXPECT_FALSE(command) << testing::PrintToString(words);
  return command ? "" : command.error().what;
}

TEST(RuntimeCommand, ReadsWhatContainerdSends) {
  const RuntimeCommand command =
      Parse({"--root", "/run/r", "--log", "/b/log.json", "--log-format", "json", "create",
             "--bundle", "/b", "--pid-file", "/b/init.pid", "abc"});
  EXPECT_EQ(command.name, "create");
  EXPECT_TRUE(command.starts_container);
  EXPECT_EQ(command.bundle, "/b");
  EXPECT_EQ(command.container_id, "abc");
  EXPECT_THAT(command.arguments,
              ElementsAre("--root", "/run/r", "--log", "/b/log.json", "--log-format", "json",
                          "create", "--bundle", "/b", "--pid-file=/b/init.pid", "abc"));
}

TEST(RuntimeCommand, TakesEverySpellingOfTheBundle) {
  for (const Words& bundle : {Words{"--bundle", "/b"}, Words{"--bundle=/b"}, Words{"-b", "/b"},
                              Words{"-b=/b"}, Words{"-bundle", "/b"}, Words{"-bundle=/b"}}) {
    Words words = {"run"};
    words.insert(words.end(), bundle.begin(), bundle.end());
    words.emplace_back("abc");
    const RuntimeCommand command = Parse(words);
    EXPECT_EQ(command.bundle, "/b") << testing::PrintToString(words);
    EXPECT_THAT(command.arguments, ElementsAre("run", "--bundle", "/b", "abc"));
  }
}

TEST(RuntimeCommand, WithoutABundleItIsTheWorkingDirectory) {
  const RuntimeCommand command = Parse({"run", "abc"});
  EXPECT_EQ(command.bundle, ".");
  EXPECT_THAT(command.arguments, ElementsAre("run", "--bundle", ".", "abc"));
}

// runc 1.1 takes the word behind --no-pivot for its value when it reorders, and stops reading
// options there: the bundle behind it would be the working directory.
TEST(RuntimeCommand, TheBundleThatIsGuardedIsTheOneThatIsRun) {
  EXPECT_THAT(Parse({"create", "--no-pivot", "abc", "--bundle", "/b"}).arguments,
              ElementsAre("create", "--bundle", "/b", "--no-pivot", "abc"));
  EXPECT_THAT(Parse({"create", "-b", "/first", "--bundle=/last", "abc"}).arguments,
              ElementsAre("create", "--bundle", "/last", "abc"));
  EXPECT_THAT(Parse({"run", "--pid-file", "--bundle=/x", "abc"}).arguments,
              ElementsAre("run", "--bundle", ".", "--pid-file=--bundle=/x", "abc"));
  EXPECT_THAT(Parse({"run", "-b", "/b", "--", "abc"}).arguments,
              ElementsAre("run", "--bundle", "/b", "abc"));
}

TEST(RuntimeCommand, ReadsCrunsConfigFile) {
  const RuntimeCommand command = Parse({"run", "-f=/c.json", "-d", "abc"});
  EXPECT_EQ(command.config_file, "/c.json");
  EXPECT_THAT(command.arguments, ElementsAre("run", "--bundle", ".", "-f", "/c.json", "-d", "abc"));
}

TEST(RuntimeCommand, TakesItsOwnOptionOut) {
  const RuntimeCommand command = Parse({"--oakum-config=/o.json", "--debug", "state", "abc"});
  EXPECT_EQ(command.oakum_config, "/o.json");
  EXPECT_FALSE(command.starts_container);
  EXPECT_THAT(command.arguments, ElementsAre("--debug", "state", "abc"));
  EXPECT_EQ(Parse({"--oakum-config", "/o.json", "list"}).oakum_config, "/o.json");
}

TEST(RuntimeCommand, PassesOtherCommandsAsTheyAre) {
  for (const Words& words :
       {Words{"exec", "--process", "p.json", "--bundle", "x", "abc"}, Words{"kill", "abc", "KILL"},
        Words{"--version"}, Words{"--help"}, Words{"features"}, Words{"delete", "--force", "abc"},
        Words{"update", "--resources", "-", "abc"}, Words{"create", "--help"}, Words{"spec"},
        Words{}}) {
    const RuntimeCommand command = Parse(words);
    EXPECT_FALSE(command.starts_container);
    EXPECT_THAT(command.arguments, ElementsAreArray(words));
  }
}

TEST(RuntimeCommand, RefusesWhatMayHideTheBundle) {
  EXPECT_THAT(ParseError({"create", "--new-option", "--bundle", "abc"}),
              HasSubstr("unknown option \"--new-option\" of create"));
  EXPECT_THAT(ParseError({"--new-option", "create", "abc"}),
              HasSubstr("unknown option \"--new-option\" before the command"));
  EXPECT_THAT(ParseError({"create", "--bun", "/b", "abc"}), HasSubstr("unknown option \"--bun\""));
  EXPECT_THAT(ParseError({"create", "-b/b", "abc"}), HasSubstr("unknown option \"-b/b\""));
  EXPECT_THAT(ParseError({"create", "--=x", "abc"}), HasSubstr("unknown option \"--=x\""));
  EXPECT_THAT(ParseError({"--", "create", "abc"}), HasSubstr("\"--\" before the command"));
  EXPECT_THAT(ParseError({"create", "--bundle"}),
              HasSubstr("\"--bundle\" of create needs a value"));
  EXPECT_THAT(ParseError({"create", "--bundle=", "abc"}), HasSubstr("is empty"));
}

TEST(RuntimeCommand, RefusesWhatMayStartAContainerAllTheSame) {
  EXPECT_THAT(ParseError({"create", "--help=false", "abc"}), HasSubstr("takes no value"));
  EXPECT_THAT(ParseError({"create", "-h=0", "abc"}), HasSubstr("takes no value"));
  EXPECT_THAT(ParseError({"restore", "--image-path", "/i", "abc"}), HasSubstr("not be guarded"));
}

TEST(RuntimeCommand, WantsOneContainerId) {
  EXPECT_THAT(ParseError({"create", "--bundle", "/b"}), HasSubstr("one container id"));
  EXPECT_THAT(ParseError({"create", "a", "b"}), HasSubstr("one container id"));
  EXPECT_THAT(ParseError({"create", "--", "--bundle=/x"}), HasSubstr("one container id"));
}

TEST(RuntimeCommand, FindsTheLogBesideErrors) {
  const LogOptions log =
      FindLogOptions(Words{"--new", "--log-format=json", "--log", "/l", "create"});
  EXPECT_EQ(log.path, "/l");
  EXPECT_TRUE(log.json);
  EXPECT_EQ(FindLogOptions(Words{"create", "--log", "/l"}).path, "");
  EXPECT_FALSE(FindLogOptions(Words{"--log-format", "text"}).json);
}

}  // namespace
}  // namespace oakum::hook
