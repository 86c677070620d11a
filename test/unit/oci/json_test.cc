#include "oci/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <chrono>
#include <string>

namespace oakum::oci {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string RoundTrip(std::string_view text) {
  auto json = ParseJson(text, "x");
  return json ? json->dump() : json.error().ToString();
}

std::string ErrorOf(std::string_view text) {
  auto json = ParseJson(text, "config.json");
  if (json) {
    return "no error: " + json->dump();
  }
  EXPECT_EQ(json.error().code, EINVAL);
  return json.error().ToString();
}

TEST(JsonTest, KeepsOrderAndEveryKindOfValue) {
  const std::string text =
      R"({"z":1,"a":[true,false,null,"\n",{}],"m":{"y":-1,"b":[]},"":"empty key"})";
  EXPECT_EQ(RoundTrip(text), text);
}

TEST(JsonTest, KeepsIntegersOf64Bits) {
  const std::string text =
      R"([18446744073709551615,9223372036854775807,-9223372036854775808,9007199254740993])";
  EXPECT_EQ(RoundTrip(text), text);
}

TEST(JsonTest, KeepsFloatingNumbers) {
  auto json = ParseJson("[1.5e3, 1.0, -0.25, 1E2]", "x");
  ASSERT_TRUE(json);
  EXPECT_EQ((*json)[0], 1500.0);
  EXPECT_EQ((*json)[3], 100.0);
  EXPECT_EQ(json->dump(), "[1500.0,1.0,-0.25,100.0]");
}

TEST(JsonTest, RefusesIntegersBeyond64Bits) {
  EXPECT_EQ(ErrorOf("{\n \"a\": 18446744073709551616}"),
            "config.json:2:7: integer 18446744073709551616 does not fit into 64 bits");
  EXPECT_THAT(ErrorOf("-9223372036854775809"), StartsWith("config.json:1:1: integer"));
  EXPECT_THAT(ErrorOf("[1, 99999999999999999999 ]"), StartsWith("config.json:1:5: integer"));
}

TEST(JsonTest, RefusesDuplicateKeysAtAnyDepth) {
  EXPECT_EQ(ErrorOf("{\"a\": {\"b\": 1,\n  \"b\": 2}}"), "config.json:2:3: duplicate key \"b\"");
  // The same key spelt with an escape.
  EXPECT_EQ(ErrorOf(R"({"a":1, "\u0061":2})"), "config.json:1:9: duplicate key \"a\"");
  EXPECT_EQ(ErrorOf(R"({"q\"":1, "q\"":2})"), R"(config.json:1:11: duplicate key "q\"")");
  EXPECT_EQ(RoundTrip(R"({"a":{"a":1},"b":{"a":1}})"), R"({"a":{"a":1},"b":{"a":1}})");
}

TEST(JsonTest, BoundsDepth) {
  const std::string deepest = std::string(128, '[') + std::string(128, ']');
  EXPECT_EQ(RoundTrip(deepest), deepest);
  EXPECT_EQ(ErrorOf(std::string(129, '[') + std::string(129, ']')),
            "config.json:1:129: nested deeper than 128 levels");
  EXPECT_THAT(ErrorOf(std::string(1'000'000, '[')), HasSubstr("nested deeper"));
}

TEST(JsonTest, SaysWhereSyntaxIsWrong) {
  EXPECT_THAT(ErrorOf("{\n  \"a\": 1,\n  b: 2\n}"), StartsWith("config.json:3:3: "));
  EXPECT_THAT(ErrorOf("{} x"), StartsWith("config.json:1:4: "));
  EXPECT_THAT(ErrorOf("{\"a\":1"), StartsWith("config.json:1:"));
  EXPECT_THAT(ErrorOf(""), StartsWith("config.json:1:1: "));
  EXPECT_THAT(ErrorOf(std::string_view("{\"a\":\"\0\"}", 9)), StartsWith("config.json:1:7: "));
  EXPECT_EQ(ErrorOf("\xef\xbb\xbf{}"), "config.json:1:1: byte order mark");
  EXPECT_THAT(ErrorOf("[1e999]"), StartsWith("config.json:1:"));
  EXPECT_THAT(ErrorOf("\"\xff\""), StartsWith("config.json:1:2: "));
}

TEST(JsonTest, TakesLinearTimeForManyKeys) {
  std::string text = "{";
  for (int i = 0; i < 200'000; ++i) {
    text += "\"key" + std::to_string(i) + "\":1,";
  }
  text += "\"last\":1}";
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(ParseJson(text, "x"));
  // Quadratic search would take minutes.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

TEST(JsonTest, LineAndColumn) {
  EXPECT_EQ(LineAndColumn("ab\ncd", 0), "1:1");
  EXPECT_EQ(LineAndColumn("ab\ncd", 3), "2:1");
  EXPECT_EQ(LineAndColumn("ab\ncd", 4), "2:2");
  EXPECT_EQ(LineAndColumn("ab", 99), "1:3");
}

}  // namespace
}  // namespace oakum::oci
