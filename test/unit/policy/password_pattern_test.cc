// Patterns of passwords, and passwords that are made to keep the one who matches them busy.
#include "policy/password_pattern.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace oakum::policy {
namespace {

bool Matches(std::string_view pattern, std::string_view password) {
  const auto parsed = PasswordPattern::Parse(pattern);
  EXPECT_TRUE(parsed.has_value()) << pattern;
  return parsed && parsed->Matches(password);
}

TEST(PasswordPatternTest, MatchesTheWholePassword) {
  EXPECT_TRUE(Matches("[a-z]+", "abc"));
  EXPECT_TRUE(Matches("^[a-z]+$", "abc"));
  EXPECT_FALSE(Matches("[a-z]+", "abc1"));
  EXPECT_FALSE(Matches("[a-z]+", ""));
  EXPECT_TRUE(Matches("[0-9a-f]{96}", std::string(96, 'e')));
  EXPECT_FALSE(Matches("[0-9a-f]{96}", std::string(97, 'e')));
  EXPECT_TRUE(Matches(R"((?:a|b)\d{2,4}[[:upper:]]?\(?.*)", "a12X(="));
  EXPECT_TRUE(Matches("a.c", std::string_view("a\0c", 3)));
  EXPECT_TRUE(Matches(".*", std::string(255, '\xff')));
  EXPECT_FALSE(Matches(".*", std::string(256, 'a')));  // as HTTP can send it
}

TEST(PasswordPatternTest, RefusesWhatCannotBeMatchedInLinearTime) {
  for (const char* text : {"(a)\\1", "(?=.*a)b", "(?!a)b", "(?:(?=(?:(?=.*).)*).)*", "(", "[a",
                           "((a?){300}){300}", "(a?){2000}", "[a-z]{9999}"}) {
    EXPECT_FALSE(PasswordPattern::Parse(text).has_value()) << text;
  }
  EXPECT_TRUE(PasswordPattern::Parse(std::string(256, 'a')).has_value());
  EXPECT_FALSE(PasswordPattern::Parse(std::string(257, 'a')).has_value());
}

// Backtracking takes 2^255 steps for the first of them.
TEST(PasswordPatternTest, HostilePasswordsTakeNoTime) {
  const auto start = std::chrono::steady_clock::now();
  for (const char* text : {"^(a+)+$", "(a|aa)+", "(a*)*b", "((((((a*)*)*)*)*)*)*b", "(.*)*(.*)*x",
                           "([a-z]?){200}b", "(a?){400}b"}) {
    EXPECT_FALSE(Matches(text, std::string(254, 'a') + "!")) << text;
    EXPECT_FALSE(Matches(text, std::string(254, 'a') + '\xff')) << text;
  }
  // Some milliseconds; generous for a sanitizer on a busy machine.
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

}  // namespace
}  // namespace oakum::policy
