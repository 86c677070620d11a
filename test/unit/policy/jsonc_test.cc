#include "policy/jsonc.h"

#include <gtest/gtest.h>

#include <string>

namespace oakum::policy::jsonc {
namespace {

// The error of a text that must not parse, or "(parsed)".
std::string ErrorOf(std::string_view text, Comments comments = Comments::kAllowed) {
  Sources sources;
  const uint32_t file = sources.Add("f", std::string(text));
  Diagnostics diagnostics(sources);
  return Parse(sources, file, comments, diagnostics) ? "(parsed)" : diagnostics.ToError().what;
}

// The text of the string that is the whole document.
std::string StringOf(std::string_view text) {
  Sources sources;
  const uint32_t file = sources.Add("f", std::string(text));
  Diagnostics diagnostics(sources);
  const auto document = Parse(sources, file, Comments::kAllowed, diagnostics);
  return document ? std::string(document->root.text) : diagnostics.ToError().what;
}

TEST(JsoncTest, KeepsPlaces) {
  Sources sources;
  const uint32_t file =
      sources.Add("f", "// first\n{\n  \"a\": [1,\n    true], // c\n \"b\": {}}\n");
  Diagnostics diagnostics(sources);
  const auto document = Parse(sources, file, Comments::kAllowed, diagnostics);
  ASSERT_TRUE(document);
  const Value& root = document->root;
  EXPECT_EQ(sources.Describe(root.at), "f:2:1");
  EXPECT_EQ(sources.Describe(root.members[0].key_at), "f:3:3");
  EXPECT_EQ(sources.Describe(root.members[0].value.items[0].at), "f:3:9");
  EXPECT_EQ(root.members[0].value.items[0].text, "1");
  EXPECT_EQ(sources.Describe(root.members[0].value.items[1].at), "f:4:5");
  EXPECT_TRUE(root.members[0].value.items[1].boolean);
  EXPECT_EQ(sources.Describe(root.Find("b")->at), "f:5:7");
  EXPECT_EQ(root.Find("c"), nullptr);
}

TEST(JsoncTest, Strings) {
  EXPECT_EQ(StringOf(R"("plain")"), "plain");
  EXPECT_EQ(StringOf(R"("a\"\\\/\b\f\n\r\tz")"), "a\"\\/\b\f\n\r\tz");
  EXPECT_EQ(StringOf(R"("\u0041\u00e9\u20ac\ud83d\ude00")"), "A\u00e9\u20ac\U0001f600");
  EXPECT_EQ(StringOf("\"\u00e9\u20ac\U0001f600\""), "\u00e9\u20ac\U0001f600");
  EXPECT_EQ(StringOf(R"("no // comment")"), "no // comment");
}

TEST(JsoncTest, Numbers) {
  for (const char* text : {"0", "-0", "1", "-12", "1.5", "1e3", "1E-3", "18446744073709551615"}) {
    EXPECT_EQ(StringOf(text), text);
  }
  for (const char* text : {"01", "-", "+1", ".5", "1.", "1e", "-01", "0x1", "NaN"}) {
    EXPECT_NE(ErrorOf(text), "(parsed)") << text;
  }
}

TEST(JsoncTest, SaysWhereItIsWrong) {
  EXPECT_EQ(ErrorOf(""), "f:1:1: expected a value, found the end of the file");
  EXPECT_EQ(ErrorOf("{\"a\": 1\n \"b\": 2}"), "f:2:2: expected \",\" or \"}\", found \"\\\"\"");
  EXPECT_EQ(ErrorOf("{\"a\": 1,\n}"), "f:1:8: no comma before the closing \"}\"");
  EXPECT_EQ(ErrorOf("[1,]"), "f:1:3: no comma before the closing \"]\"");
  EXPECT_EQ(ErrorOf("{a: 1}"), "f:1:2: expected a key in double quotes, found \"a\"");
  EXPECT_EQ(ErrorOf("{\"a\" 1}"), "f:1:6: expected \":\", found \"1\"");
  EXPECT_EQ(ErrorOf("{\"a\": 1, \"b\": 2, \"a\": 3}"), "f:1:18: \"a\" stands here twice");
  EXPECT_EQ(ErrorOf("1 2"), "f:1:3: nothing may follow the outermost value");
  EXPECT_EQ(ErrorOf("[tru]"), "f:1:2: expected a value, found \"t\"");
  EXPECT_EQ(ErrorOf("\"abc"), "f:1:1: this string has no closing quote");
  EXPECT_EQ(ErrorOf("\"ab\nc\""), "f:1:4: a string ends on the line where it starts");
  EXPECT_EQ(ErrorOf("\"a\\q\""), "f:1:3: unknown escape in a string");
  EXPECT_EQ(ErrorOf("\"a\\"), "f:1:3: unknown escape in a string");
  EXPECT_EQ(ErrorOf("\"\\u12\""), "f:1:2: \\u takes four hexadecimal digits");
  EXPECT_EQ(ErrorOf("\"\\u0000\""), "f:1:2: NUL characters are refused");
  EXPECT_EQ(ErrorOf("\"\\ud800\""), "f:1:2: half of a surrogate pair");
  EXPECT_EQ(ErrorOf("\"\\udc00\""), "f:1:2: half of a surrogate pair");
  EXPECT_EQ(ErrorOf("\"\xff\""), "f:1:2: not UTF-8");
  EXPECT_EQ(ErrorOf("\"\xc0\x80\""), "f:1:2: not UTF-8");
  EXPECT_EQ(ErrorOf("[/* no */ 1]"),
            "f:1:2: a comment starts with // and goes to the end of its line");
}

TEST(JsoncTest, CommentsOnlyWhereAllowed) {
  EXPECT_EQ(ErrorOf("[1] // end"), "(parsed)");
  EXPECT_NE(ErrorOf("[1] // end", Comments::kRefused), "(parsed)");
}

TEST(JsoncTest, DuplicateKeysInLargeObjects) {
  std::string text = "{";
  for (int i = 0; i < 1000; ++i) {
    text += "\"k" + std::to_string(i) + "\": 0,";
  }
  EXPECT_EQ(ErrorOf(text + "\"z\": 0}"), "(parsed)");
  EXPECT_NE(ErrorOf(text + "\"k3\": 0}").find("\"k3\" stands here twice"), std::string::npos);
  EXPECT_NE(ErrorOf(text + "\"k999\": 0}").find("\"k999\" stands here twice"), std::string::npos);
}

TEST(JsoncTest, NestingIsBounded) {
  const std::string deep(kMaxNesting, '[');
  EXPECT_EQ(ErrorOf(deep + std::string(kMaxNesting, ']')), "(parsed)");
  EXPECT_EQ(ErrorOf("[" + deep + std::string(kMaxNesting + 1, ']')),
            "f:1:33: nested more than 32 levels deep");
  EXPECT_NE(ErrorOf(std::string(1'000'000, '[')), "(parsed)");
}

}  // namespace
}  // namespace oakum::policy::jsonc
