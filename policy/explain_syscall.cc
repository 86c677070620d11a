#include "policy/explain_syscall.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>

#include "oci/multiplexer.h"
#include "policy/compiled.h"
#include "policy/errno_name.h"
#include "policy/plan.h"
#include "policy/syscall_list.h"

namespace oakum::policy {

namespace {

using Answer = SyscallExplanation::Answer;
using oci::FilterAction;

std::string NameOf(int errno_value) {
  const std::string_view name = ErrnoName(errno_value);
  return name.empty() ? fmt::format("{}", errno_value) : std::string(name);
}

bool Holds(const std::vector<std::string>& list, std::string_view call) {
  return std::ranges::find(list, call) != list.end();
}

std::string_view Verb(Listing listing) {
  switch (listing) {
    case Listing::kAllowed:
      return "allows";
    case Listing::kByArguments:
      return "allows most of";
    case Listing::kRefused:
    case Listing::kAbsent:
      return "refuses";
  }
  return "refuses";
}

// The name in "deny" that denies the call: itself, or what it carries as a multiplexer.
std::string_view DeniedBy(const SyscallRules& rules, std::string_view call) {
  for (const std::string& name : rules.deny) {
    const oci::Multiplexer* multiplexer = oci::MultiplexerOf(name);
    if (name == call || (multiplexer != nullptr && multiplexer->name == call)) {
      return name;
    }
  }
  return {};
}

std::string RuleFor(const SyscallRules& rules, std::string_view call, bool guarded) {
  if (const std::string_view name = DeniedBy(rules, call); !name.empty()) {
    return fmt::format("syscalls.deny {}", name);
  }
  if (guarded) {
    return "the guard";
  }
  if (rules.strict && Holds(rules.allow, call)) {
    return fmt::format("syscalls.allow {}", call);
  }
  return rules.strict ? "syscalls.base strict" : "syscalls.base keep";
}

void Decide(const oci::SeccompPlan& plan, std::string_view call, SyscallExplanation& explanation) {
  const auto planned = std::ranges::find(plan.syscalls, call, &oci::SyscallPlan::name);
  if (planned == plan.syscalls.end()) {
    if (plan.others_errno) {
      explanation.errno_name = NameOf(*plan.others_errno);
    } else {
      explanation.answer = Answer::kAllowed;
    }
    return;
  }
  const auto any = [&](FilterAction action) {
    return std::ranges::any_of(planned->branches, [&](const oci::FilterBranch& branch) {
      return branch.action == action;
    });
  };
  if (any(FilterAction::kNotify)) {
    explanation.answer = Answer::kGuarded;
  } else if (any(FilterAction::kAllow)) {
    explanation.answer = any(FilterAction::kErrno) ? Answer::kByArguments : Answer::kAllowed;
  } else {
    explanation.errno_name = NameOf(planned->branches.front().errno_value);
  }
}

}  // namespace

Expected<SyscallExplanation> ExplainSyscall(const Policy& policy, std::string_view call) {
  if (std::string unknown = UnknownSyscall(call); !unknown.empty()) {
    return MakeError(ENOENT, std::move(unknown));
  }
  const SyscallRules& rules = policy.compiled().source.syscalls;
  const oci::SeccompPlan plan = Plan(policy);
  SyscallExplanation explanation;
  Decide(plan, call, explanation);
  if (policy.mode() == Mode::kAudit) {
    explanation.rule = explanation.answer == Answer::kGuarded ? "the guard" : "mode audit";
    explanation.notes.emplace_back("in the mode audit \"syscalls\" has no effect");
    return explanation;
  }
  const SyscallGroup* group = FindSyscallGroup(call);
  const bool guarded = explanation.answer == Answer::kGuarded || call.starts_with("io_uring_");
  explanation.rule = RuleFor(rules, call, guarded);
  if (rules.strict && group == nullptr) {
    explanation.notes.emplace_back(
        "it is newer than the list of \"strict\", which does not have it");
  } else if (rules.strict) {
    explanation.notes.push_back(fmt::format("\"strict\" {} it under \"{}\": {}",
                                            Verb(group->listing), group->name, group->why));
  }
  if (explanation.answer != Answer::kRefused) {
    explanation.notes.emplace_back(
        "what the engine's profile, capabilities or permissions refuse stays refused");
  }
  return explanation;
}

}  // namespace oakum::policy
