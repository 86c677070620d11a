#include "oci/config.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>

#include "oci/json.h"

namespace oakum::oci {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using testing::StartsWith;

const SeccompPlan kPlan = {{{"connect", {{{}, FilterAction::kNotify, 0}}},
                            {"socketcall", {{{}, FilterAction::kNotify, 0}}}}};
const ListenerConfig kListener = {"/run/oakum/agent.sock", "meta", {}};

Expected<ConfigFacts> ReadConfigFacts(std::string_view text) {
  const auto document = ConfigDocument::Parse(text);
  return document ? document->Facts() : std::unexpected(document.error());
}

Expected<std::string> EditConfig(std::string_view text, const ListenerConfig& listener) {
  auto document = ConfigDocument::Parse(text);
  if (!document) {
    return std::unexpected(document.error());
  }
  const auto section = document->MergeSeccomp(kPlan, listener);
  return section ? document->ReplaceSeccomp(*section)
                 : Expected<std::string>(std::unexpected(section.error()));
}

std::string Edit(std::string_view text) {
  auto edited = EditConfig(text, kListener);
  if (!edited) {
    return "error: " + edited.error().ToString();
  }
  EXPECT_TRUE(ParseJson(*edited, "edited")) << *edited;
  return *edited;
}

// What EditConfig writes for a container without a section.
std::string FreshSection() {
  auto merged = MergeSeccomp(Json(), kPlan, kListener);
  return merged ? merged->dump() : merged.error().ToString();
}

TEST(EditConfigTest, KeepsEveryByteOutsideOfTheSection) {
  const std::string head =
      "{ \"z\": 18446744073709551615,\n\t\"x\\u0079\" : [1.50e3, -0, \"}{\\\"\"],\n \"linux\": "
      "{\"a\":{}, ";
  const std::string tail = " , \"unknown\" : {\"k\":null} }\n, \"mounts\":[ ] }\n\n";
  const std::string before = head + "\"seccomp\" : {} " + tail;
  EXPECT_EQ(Edit(before), head + "\"seccomp\" : " + FreshSection() + " " + tail);
}

TEST(EditConfigTest, InsertsWhatIsMissing) {
  const std::string member = "\"seccomp\":" + FreshSection();
  EXPECT_EQ(Edit("{}"), "{\"linux\":{" + member + "}}");
  EXPECT_EQ(Edit(" {\"a\":1}"), " {\"linux\":{" + member + "},\"a\":1}");
  EXPECT_EQ(Edit("{\"linux\": null}"), "{\"linux\": {" + member + "}}");
  EXPECT_EQ(Edit("{\"linux\": { }}"), "{\"linux\": {" + member + " }}");
  EXPECT_EQ(Edit("{\"linux\": {\"seccomp\":null}}"), "{\"linux\": {" + member + "}}");
  EXPECT_EQ(Edit("{\"linux\": {\"b\":[1]}}"), "{\"linux\": {" + member + ",\"b\":[1]}}");
}

TEST(EditConfigTest, FindsKeysSpeltWithEscapesAndIgnoresThemElsewhere) {
  EXPECT_EQ(
      Edit(R"({"a":{"linux":{"seccomp":1}},"lin\u0075x":{"b":"\"seccomp\":","secc\u006fmp":{}}})"),
      R"({"a":{"linux":{"seccomp":1}},"lin\u0075x":{"b":"\"seccomp\":","secc\u006fmp":)" +
          FreshSection() + "}}");
}

TEST(EditConfigTest, IsIdempotent) {
  const std::string once = Edit("{\"linux\":{}}");
  EXPECT_EQ(Edit(once), once);
}

TEST(EditConfigTest, SaysWhatIsWrong) {
  EXPECT_THAT(Edit(""), StartsWith("error: config.json:1:1: "));
  EXPECT_THAT(Edit("[]"), HasSubstr("must be an object"));
  EXPECT_THAT(Edit("{\"a\":1,}"), StartsWith("error: config.json:1:8: "));
  EXPECT_THAT(Edit("{\"linux\":1}"), HasSubstr("linux must be an object"));
  EXPECT_THAT(Edit("{\"linux\":{\"seccomp\":1}}"), HasSubstr("linux: seccomp: must be an object"));
  EXPECT_THAT(Edit("{\"linux\":{\"seccomp\":{\"x\":1}}}"),
              HasSubstr("linux: seccomp: defaultAction: is missing"));
  EXPECT_THAT(Edit("{\"windows\":{}}"), HasSubstr("describes a windows container"));
  EXPECT_THAT(Edit("{\"vm\":{}}"), HasSubstr("describes a vm container"));
  EXPECT_THAT(Edit("{\"linux\":{},\"vm\":{}}"), StartsWith("{"));
}

// runc would act on such keys, and the last one wins.
TEST(EditConfigTest, RefusesKeysThatGoFoldsIntoOurs) {
  EXPECT_THAT(Edit("{\"Linux\":{}}"), HasSubstr("would be read as \"linux\""));
  EXPECT_THAT(Edit("{\"linux\":{\"SECCOMP\":{}}}"), HasSubstr("would be read as \"seccomp\""));
  EXPECT_THAT(Edit("{\"linux\":{\"\xc5\xbf"
                   "eccomp\":{}}}"),
              HasSubstr("would be read as \"seccomp\""));
  EXPECT_THAT(Edit(R"({"linux":{"seccomp":{"DefaultAction":"SCMP_ACT_ALLOW"}}})"),
              HasSubstr("would be read as \"defaultAction\""));
  EXPECT_THAT(
      Edit(R"({"linux":{"seccomp":{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"Names":[]}]}}})"),
      HasSubstr("syscalls[0]: key \"Names\""));
}

TEST(EditConfigTest, RefusesListenersThatAreNotText) {
  auto edited = EditConfig("{}", {"/run/\xff", "", {}});
  ASSERT_FALSE(edited);
  EXPECT_EQ(edited.error().code, EINVAL);
}

// The section is most of the text, and whoever knows it from before has no need of what it says.
TEST(ConfigDocumentTest, ReadsTheSectionOnlyWhereItIsAskedFor) {
  const std::string wrong = R"({"defaultAction" : "SCMP_ACT_ALLOW",, "x": "}" })";
  const std::string text = R"({"hostname":"box", "linux":{"seccomp": )" + wrong + " }}";
  auto document = ConfigDocument::Parse(text);
  ASSERT_TRUE(document) << document.error().ToString();
  EXPECT_EQ(document->Facts()->hostname, "box");
  EXPECT_EQ(document->Seccomp(), wrong);
  EXPECT_THAT(document->ListenerPath().error().what, StartsWith("config.json:1:76: "));
  EXPECT_EQ(document->MergeSeccomp(kPlan, kListener).error().code, EINVAL);
}

// What is wrong in the section, or looks like one, is told where the whole text has it; what is
// right is read as it was written.
TEST(ConfigDocumentTest, IsWhatParsingTheWholeWouldSay) {
  const auto listener = [](const std::string& text) {
    auto document = ConfigDocument::Parse(text);
    const auto path = document ? document->ListenerPath() : std::unexpected(document.error());
    const auto whole = ParseJson(text, "config.json");
    EXPECT_EQ(path.has_value() || path.error().what.contains("must be"), whole.has_value()) << text;
    if (!whole && !path) {
      EXPECT_EQ(path.error().what, whole.error().what) << text;
    }
    return path ? *path : "error: " + path.error().what;
  };
  EXPECT_EQ(listener(R"({"linux":{"seccomp":{"listenerPath":"\u002fa\"}{"}}})"), "/a\"}{");
  EXPECT_EQ(
      listener(R"( {"a":"\"linux","linux" : {"b":[{}],"secc\u006fmp" :{"listenerPath":"/a"}}} )"),
      "/a");
  for (const char* section : {R"({"listenerPath":"/a","listenerPath":"/b"})",
                              R"({"a":{"b":1,"b":2}})",
                              "{]",
                              "{[}",
                              R"({"a":1],"x":{})",
                              R"({"a")",
                              R"({"a":"})",
                              R"({"a":"\)",
                              "{",
                              R"({}{})",
                              R"({},{})",
                              R"({"a":18446744073709551616})",
                              R"({"a":01})",
                              "{\"a\":\"\xff\"}",
                              R"({} "b":{})",
                              R"({},"b":{})",
                              R"({},"seccomp":{})",
                              R"(1)",
                              R"("{}")",
                              "[]",
                              "null",
                              "",
                              "}",
                              ",",
                              "{}}"}) {
    listener(fmt::format(R"({{"linux":{{"seccomp":{}}}}})", section));
    listener(fmt::format(R"({{"x":0,"linux":{{"y":1,"seccomp":{},"z":2}},"last":[]}})", section));
  }
  // As deep as the whole may be, and one deeper.
  for (const size_t depth : {125U, 126U, 127U}) {
    const std::string deep = std::string(depth, '[') + std::string(depth, ']');
    listener(fmt::format(R"({{"linux":{{"seccomp":{{"a":{}}}}}}})", deep));
  }
  for (const char* text :
       {R"({"linux":{"seccomp":{}},"linux":{"seccomp":{}}})", R"({"linux":[{"seccomp":{}}]})",
        R"(["linux",{"seccomp":{}}])", R"({"linux"{"seccomp":{}}})", R"({linux:{"seccomp":{}}})",
        R"({"linux":{"seccomp":{}}}})", R"({"linux":{"seccomp":{}})",
        R"({"linux" "seccomp":{}})"}) {
    listener(text);
  }
}

TEST(ConfigFactsTest, ReadsPlainValues) {
  auto facts = ReadConfigFacts(R"({
    "ociVersion": "1.0.2", "hostname": "box", "root": {"path": "rootfs", "readonly": true},
    "process": {"args": ["sh", "-c", "id"], "env": ["A=1", "B="], "user": {"uid": 0}},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"},
               {"destination": "/etc/hosts", "source": "/var/lib/x/hosts"}],
    "annotations": {"io.oakum.policy": "web"},
    "linux": {"cgroupsPath": "/docker/abc", "seccomp": {"listenerPath": "/run/x"}}})");
  ASSERT_TRUE(facts) << facts.error().ToString();
  EXPECT_EQ(facts->oci_version, "1.0.2");
  EXPECT_EQ(facts->hostname, "box");
  EXPECT_EQ(facts->root_path, "rootfs");
  EXPECT_THAT(facts->args, ElementsAre("sh", "-c", "id"));
  EXPECT_THAT(facts->env, ElementsAre("A=1", "B="));
  EXPECT_THAT(facts->mounts, ElementsAre(ConfigMount{"/proc", "proc", "proc"},
                                         ConfigMount{"/etc/hosts", "", "/var/lib/x/hosts"}));
  EXPECT_THAT(facts->annotations, ElementsAre(Pair("io.oakum.policy", "web")));
  EXPECT_EQ(facts->cgroups_path, "/docker/abc");
}

TEST(ConfigFactsTest, TakesAbsentAndNullKeysForEmpty) {
  auto facts = ReadConfigFacts(R"({"annotations":null,"process":{"env":null}})");
  ASSERT_TRUE(facts) << facts.error().ToString();
  EXPECT_TRUE(facts->annotations.empty());
  EXPECT_TRUE(facts->env.empty());
  EXPECT_EQ(facts->hostname, "");
}

TEST(ConfigFactsTest, SaysWhichKeyIsWrong) {
  const auto error = [](std::string_view text) {
    auto facts = ReadConfigFacts(text);
    return facts ? std::string("no error") : facts.error().ToString();
  };
  EXPECT_EQ(error(R"({"hostname":1})"), "config.json: hostname must be a string");
  EXPECT_EQ(error(R"({"annotations":{"a":1}})"),
            "config.json: annotations must be an object of strings");
  EXPECT_EQ(error(R"({"process":{"env":{}}})"), "config.json: env must be a list");
  EXPECT_EQ(error(R"({"mounts":[1]})"), "config.json: mounts must be a list of objects");
  EXPECT_THAT(error("{"), StartsWith("config.json:1:"));
}

}  // namespace
}  // namespace oakum::oci
