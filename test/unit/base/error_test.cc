#include "base/error.h"

#include <gtest/gtest.h>

#include <cerrno>

namespace oakum {
namespace {

TEST(Error, TakesErrnoAtOnce) {
  errno = ENOENT;
  const Error error = ErrnoError("open /x").error();
  EXPECT_EQ(error.code, ENOENT);
  EXPECT_EQ(error.ToString(), "open /x: No such file or directory");
}

TEST(Error, AddsContextInFront) {
  Error error = MakeError(EINVAL, "line 3: not a number").error();
  error = std::move(error).Context("policy.jsonc");
  EXPECT_EQ(error.code, EINVAL);
  EXPECT_EQ(error.ToString(), "policy.jsonc: line 3: not a number");
}

TEST(Escape, KeepsText) {
  EXPECT_EQ(Escape("curl https://example.com/ä€😀"), "curl https://example.com/ä€😀");
}

TEST(Escape, CannotForgeALineOrATerminalSequence) {
  EXPECT_EQ(Escape("a\nb\tc\rd"), "a\\nb\\tc\\x0dd");
  EXPECT_EQ(Escape("\x1b[31m"), "\\x1b[31m");
  EXPECT_EQ(Escape("say \"\\\""), R"(say \"\\\")");
  EXPECT_EQ(Escape(std::string_view("\0\x7f", 2)), "\\x00\\x7f");
  // U+009B is CSI to a terminal that takes C1 controls.
  EXPECT_EQ(Escape("\xc2\x9b"), "\\xc2\\x9b");
}

TEST(Escape, ShowsWhatIsNotUtf8) {
  EXPECT_EQ(Escape("\xff\x80"), "\\xff\\x80");
  EXPECT_EQ(Escape("\xc0\xaf"), "\\xc0\\xaf");                    // overlong
  EXPECT_EQ(Escape("\xed\xa0\x80"), "\\xed\\xa0\\x80");           // surrogate
  EXPECT_EQ(Escape("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // above U+10FFFF
  EXPECT_EQ(Escape("\xe2\x82"), "\\xe2\\x82");                    // cut
}

TEST(Escape, IsBounded) {
  EXPECT_EQ(Escape(std::string(300, 'a')).size(), 256 + 3);
  EXPECT_EQ(Escape("abcdef", 3), "abc...");
  EXPECT_EQ(Escape("abc", 3), "abc");
}

}  // namespace
}  // namespace oakum
