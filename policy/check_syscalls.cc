#include "policy/check_syscalls.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "policy/errno_name.h"
#include "policy/suggest.h"
#include "policy/syscall_list.h"

namespace oakum::policy {

namespace {

using Word = std::string_view;
using syntax::Text;

// Calls that the guard answers with ENOSYS whatever a policy says.
constexpr Word kIoUring = "io_uring_";

// Whether there is such a call; says so when there is not.
bool CheckName(const Text& text, CheckContext& context) {
  const std::string unknown = UnknownSyscall(text.value);
  if (!unknown.empty()) {
    context.Say(text.at, unknown);
  }
  return unknown.empty();
}

int CheckErrno(const std::optional<Text>& text, CheckContext& context) {
  if (!text) {
    return EPERM;
  }
  int value = 0;
  const Word word = text->value;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (error == std::errc() && end == word.data() + word.size()) {
    if (value >= 1 && value <= kMaxErrno) {
      return value;
    }
  } else if (const auto named = ErrnoOf(word)) {
    return *named;
  }
  context.Say(text->at, fmt::format("\"{}\" is no errno: a name like \"EPERM\" or a number in "
                                    "1..{}{}",
                                    Escape(word), kMaxErrno, DidYouMean(word, ErrnoNames())));
  return EPERM;
}

}  // namespace

SyscallRules CheckSyscalls(const std::optional<syntax::Syscalls>& syscalls, CheckContext& context) {
  SyscallRules rules;
  if (!syscalls) {
    return rules;
  }
  rules.strict = context.Choose(syscalls->base, "base", kSyscallBases) == 1U;
  rules.errno_value = CheckErrno(syscalls->errno_value, context);
  std::map<Word, Location> allowed;
  for (const Text& text : syscalls->allow) {
    if (text.value.starts_with(kIoUring) && CheckName(text, context)) {
      context.Say(text.at, fmt::format("\"{}\" cannot be allowed: a ring connects and sends "
                                       "without system calls that could be guarded",
                                       Escape(text.value)));
    } else if (CheckName(text, context) && allowed.emplace(text.value, text.at).second) {
      rules.allow.emplace_back(text.value);
    }
  }
  std::map<Word, Location> denied;
  for (const Text& text : syscalls->deny) {
    if (!CheckName(text, context)) {
      continue;
    }
    if (const auto other = allowed.find(text.value); other != allowed.end()) {
      context.Say(text.at,
                  fmt::format("\"{}\" stands in \"allow\" as well, at {}", Escape(text.value),
                              context.sources().Describe(other->second)));
    }
    if (!rules.strict && !IsKnownToLibseccomp(text.value)) {
      context.Say(text.at, fmt::format("the libseccomp of this machine does not know \"{}\", so "
                                       "that no filter can refuse it; with \"base\": \"strict\" it "
                                       "is refused like everything unknown",
                                       Escape(text.value)));
    }
    if (denied.emplace(text.value, text.at).second) {
      rules.deny.emplace_back(text.value);
    }
  }
  return rules;
}

}  // namespace oakum::policy
