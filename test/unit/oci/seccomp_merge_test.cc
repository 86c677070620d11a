#include "oci/seccomp_merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include "oci/seccomp_section.h"

namespace oakum::oci {
namespace {

using testing::HasSubstr;

const FilterBranch kNotifyAll = {{}, FilterAction::kNotify, 0};

// connect is notified, sendto depends on its arguments, io_uring is gone.
SeccompPlan Plan() {
  const ArgCondition fast_open = {3, Compare::kMaskedEqual, 0x20000000, 0x20000000};
  const ArgCondition no_fast_open = {3, Compare::kMaskedEqual, 0x20000000, 0};
  return {{{"connect", {kNotifyAll}},
           {"socketcall", {kNotifyAll}},
           {"sendto",
            {{{fast_open}, FilterAction::kErrno, EOPNOTSUPP},
             {{no_fast_open, {4, Compare::kEqual, 0, 0}}, FilterAction::kAllow, 0},
             {{no_fast_open, {4, Compare::kNotEqual, 0, 0}}, FilterAction::kNotify, 0}}},
           {"io_uring_setup", {{{}, FilterAction::kErrno, ENOSYS}}}}};
}

const ListenerConfig kListener = {"/run/oakum/agent.sock", "meta", {}};

Json Parse(std::string_view text) {
  auto json = ParseJson(text, "section");
  EXPECT_TRUE(json) << json.error().ToString();
  return json ? *std::move(json) : Json();
}

Json Merged(std::string_view section, const SeccompPlan& plan = Plan(),
            const ListenerConfig& listener = kListener) {
  auto merged = MergeSeccomp(Parse(section), plan, listener);
  EXPECT_TRUE(merged) << merged.error().ToString();
  return merged ? *std::move(merged) : Json();
}

Error Refusal(std::string_view section, const SeccompPlan& plan = Plan(),
              const ListenerConfig& listener = kListener) {
  auto merged = MergeSeccomp(Parse(section), plan, listener);
  EXPECT_FALSE(merged) << merged->dump();
  return merged ? Error{} : merged.error();
}

std::string RefusalText(std::string_view section, const SeccompPlan& plan = Plan()) {
  const Error error = Refusal(section, plan);
  EXPECT_EQ(error.code, EINVAL) << error.what;
  return error.what;
}

// The entries of `syscalls` for one name.
std::string RulesFor(const Json& section, std::string_view name) {
  std::string rules;
  for (const Json& rule : section["syscalls"]) {
    for (const Json& entry : rule["names"]) {
      if (entry == name) {
        rules += rule.dump() + "\n";
      }
    }
  }
  return rules;
}

TEST(MergeSeccompTest, SynthesisesASectionWhereThereIsNone) {
  for (const char* none : {"null", "{}"}) {
    const Json merged = Merged(none);
    EXPECT_EQ(merged["defaultAction"], "SCMP_ACT_ALLOW");
    EXPECT_EQ(merged["architectures"], Json(NativeAndCompatibleArchs()));
    EXPECT_EQ(merged["listenerPath"], "/run/oakum/agent.sock");
    EXPECT_EQ(merged["listenerMetadata"], "meta");
    EXPECT_FALSE(merged.contains("flags"));
    EXPECT_EQ(RulesFor(merged, "connect"),
              "{\"names\":[\"connect\"],\"action\":\"SCMP_ACT_NOTIFY\"}\n");
    EXPECT_EQ(RulesFor(merged, "io_uring_setup"),
              "{\"names\":[\"io_uring_setup\"],\"action\":\"SCMP_ACT_ERRNO\",\"errnoRet\":38}\n");
    // Equal to the default, which runc would skip anyway.
    EXPECT_THAT(RulesFor(merged, "sendto"), testing::Not(HasSubstr("ALLOW")));
  }
}

TEST(MergeSeccompTest, KeepsWhatItDoesNotKnowAndTheOrderOfKeys) {
  const Json merged =
      Merged(R"({"x-first":[1.5,18446744073709551615],"defaultAction":"SCMP_ACT_ERRNO",
      "syscalls":[{"names":["read","connect","write"],"comment":"mine","action":"SCMP_ACT_ALLOW","z":{}},
                  {"names":["connect"],"action":"SCMP_ACT_ALLOW"}],"x-last":null})");
  EXPECT_EQ(merged["x-first"].dump(), "[1.5,18446744073709551615]");
  EXPECT_EQ(merged.begin().key(), "x-first");
  EXPECT_EQ(merged["syscalls"][0].dump(),
            R"({"names":["read","write"],"comment":"mine","action":"SCMP_ACT_ALLOW","z":{}})");
  EXPECT_EQ(merged["syscalls"].size(), 2U) << merged.dump();
  EXPECT_EQ(RulesFor(merged, "connect"),
            "{\"names\":[\"connect\"],\"action\":\"SCMP_ACT_NOTIFY\"}\n");
  EXPECT_EQ(RulesFor(merged, "sendto"), "") << "denied before, so nothing to say";
}

TEST(MergeSeccompTest, KeepsDenialsWithTheirErrno) {
  const Json merged = Merged(R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,"syscalls":[
      {"names":["read"],"action":"SCMP_ACT_ALLOW"},
      {"names":["connect"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
      {"names":["io_uring_setup"],"action":"SCMP_ACT_KILL_PROCESS"},
      {"names":["sendto"],"action":"SCMP_ACT_TRACE","errnoRet":7}]})");
  EXPECT_THAT(RulesFor(merged, "connect"), HasSubstr("\"errnoRet\":13"));
  EXPECT_THAT(RulesFor(merged, "io_uring_setup"), HasSubstr("KILL_PROCESS"));
  EXPECT_THAT(RulesFor(merged, "sendto"), HasSubstr("\"SCMP_ACT_TRACE\",\"errnoRet\":7"));
}

TEST(MergeSeccompTest, PutsSocketcallFirstWhereAnArchitectureHasIt) {
  const Json merged = Merged(R"({"defaultAction":"SCMP_ACT_ERRNO",
      "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"],"syscalls":[
      {"names":["read","sendto","connect"],"action":"SCMP_ACT_ALLOW"},
      {"names":["socketcall"],"action":"SCMP_ACT_ALLOW"}]})");
  EXPECT_EQ(merged["syscalls"][0].dump(), R"({"names":["socketcall"],"action":"SCMP_ACT_NOTIFY"})");
}

TEST(MergeSeccompTest, RefusesProfilesThatLeaveSocketcallToLibseccomp) {
  EXPECT_THAT(RefusalText(R"({"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],
      "syscalls":[{"names":["read","sendto"],"action":"SCMP_ACT_ALLOW"}]})"),
              HasSubstr("does not decide socketcall itself"));
  SeccompPlan plan = Plan();
  plan.syscalls.erase(plan.syscalls.begin() + 1);
  EXPECT_THAT(RefusalText("null", plan), HasSubstr("names calls of socketcall but not socketcall"));
}

TEST(MergeSeccompTest, CountsNamesThatNothingIsLeftToSayAbout) {
  // runc answers ENOSYS above the largest number that the profile names.
  const Json merged = Merged(R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
      {"names":["read"],"action":"SCMP_ACT_ALLOW"},
      {"names":["io_uring_setup"],"action":"SCMP_ACT_ALLOW",
       "args":[{"index":0,"value":0,"op":"SCMP_CMP_LT"}]}]})");
  EXPECT_EQ(RulesFor(merged, "io_uring_setup"),
            R"({"names":["io_uring_setup"],"action":"SCMP_ACT_ERRNO","errnoRet":1})"
            "\n");
}

TEST(MergeSeccompTest, IsIdempotentWithItsOwnListener) {
  const Json once = Merged(R"({"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],
      "syscalls":[{"names":["read","sendto","connect","socketcall"],"action":"SCMP_ACT_ALLOW"}]})");
  const auto twice = MergeSeccomp(once, Plan(), kListener);
  ASSERT_TRUE(twice) << twice.error().ToString();
  EXPECT_EQ(twice->dump(), once.dump());
  // The facts of whoever comes last are handed to the agent.
  const auto other = MergeSeccomp(once, Plan(), {kListener.path, "newer", {}});
  ASSERT_TRUE(other);
  EXPECT_EQ((*other)["listenerMetadata"], "newer");
}

TEST(MergeSeccompTest, DoesNotBelieveThatASectionIsItsOwn) {
  // Ours by its path, but nothing is guarded.
  const Error open =
      Refusal(R"({"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/oakum/agent.sock"})");
  EXPECT_EQ(open.code, EBUSY);
  EXPECT_THAT(open.what, HasSubstr("another policy"));
  // One way left open.
  Json merged = Merged("null");
  for (Json& rule : merged["syscalls"]) {
    if (rule["names"][0] == "sendto" && rule["action"] == "SCMP_ACT_NOTIFY") {
      rule["action"] = "SCMP_ACT_LOG";
    }
  }
  EXPECT_EQ(Refusal(merged.dump()).code, EBUSY);
  // More is notified than the policy asks for.
  merged = Merged("null");
  merged["syscalls"].push_back(Parse(R"({"names":["mount"],"action":"SCMP_ACT_NOTIFY"})"));
  EXPECT_THAT(Refusal(merged.dump()).what, HasSubstr("mount: is notified"));
}

TEST(MergeSeccompTest, RefusesAnotherListener) {
  const Error error = Refusal(R"({"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"/run/other"})");
  EXPECT_EQ(error.code, EBUSY);
  EXPECT_THAT(error.what, HasSubstr("\"/run/other\" already listens"));
  EXPECT_THAT(RefusalText(R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
      {"names":["mount"],"action":"SCMP_ACT_NOTIFY"}]})"),
              HasSubstr("SCMP_ACT_NOTIFY without listenerPath"));
  EXPECT_THAT(RefusalText(R"({"defaultAction":"SCMP_ACT_NOTIFY"})"),
              HasSubstr("SCMP_ACT_NOTIFY without listenerPath"));
  EXPECT_EQ(Refusal("null", Plan(), {"relative.sock", "", {}}).code, EINVAL);
}

TEST(MergeSeccompTest, LeavesOutArchitecturesThatTheKernelHasNot) {
  const ListenerConfig listener = {"/s", "", {}, {"SCMP_ARCH_X32"}};
  const auto archs = [&](std::string_view section) {
    return Merged(section, Plan(), listener)["architectures"].dump();
  };
  EXPECT_EQ(archs(R"({"defaultAction":"SCMP_ACT_ALLOW",
                      "architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86","SCMP_ARCH_X32"]})"),
            R"(["SCMP_ARCH_X86_64","SCMP_ARCH_X86"])");
  EXPECT_EQ(archs(R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["X32","X86"]})"),
            R"(["X86"])");
  EXPECT_EQ(archs(R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["X32"]})"), "[]");
  EXPECT_EQ(archs("null"), R"(["SCMP_ARCH_X86_64","SCMP_ARCH_X86"])");
  // The native one is never absent, whoever says so.
  EXPECT_EQ(Merged(R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"]})",
                   Plan(), {"/s", "", {}, {"SCMP_ARCH_X86_64"}})["architectures"]
                .dump(),
            R"(["SCMP_ARCH_X86_64"])");
  // A hook may meet what it wrote itself.
  const Json once = Merged("null", Plan(), listener);
  const auto twice = MergeSeccomp(once, Plan(), listener);
  ASSERT_TRUE(twice) << twice.error().what;
  EXPECT_EQ(*twice, once);
}

TEST(MergeSeccompTest, KeepsTheFlagsAndTheRuntimesDefaultOfThem) {
  const ListenerConfig wait = {"/s", "", {"SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"}};
  EXPECT_EQ(Merged(R"({"defaultAction":"SCMP_ACT_ALLOW"})", Plan(), wait)["flags"].dump(),
            R"(["SECCOMP_FILTER_FLAG_SPEC_ALLOW","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])");
  EXPECT_EQ(
      Merged(R"({"defaultAction":"SCMP_ACT_ALLOW","flags":[]})", Plan(), wait)["flags"].dump(),
      R"(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])");
  EXPECT_EQ(Merged(R"({"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_LOG",
      "SECCOMP_FILTER_FLAG_TSYNC","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]})",
                   Plan(), wait)["flags"]
                .dump(),
            R"(["SECCOMP_FILTER_FLAG_LOG","SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"])");
  EXPECT_EQ(
      Merged(R"({"defaultAction":"SCMP_ACT_ALLOW","flags":["SECCOMP_FILTER_FLAG_TSYNC"]})")["flags"]
          .dump(),
      "[]");
}

TEST(MergeSeccompTest, SaysWhereASectionIsMalformed) {
  EXPECT_THAT(RefusalText("[]"), HasSubstr("seccomp: must be an object"));
  EXPECT_THAT(RefusalText(R"({"syscalls":[]})"), HasSubstr("defaultAction: is missing"));
  EXPECT_THAT(RefusalText(R"({"defaultAction":"ALLOW"})"), HasSubstr("unknown action \"ALLOW\""));
  EXPECT_THAT(RefusalText(R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":65536})"),
              HasSubstr("defaultErrnoRet: must be an integer in 0..65535"));
  EXPECT_THAT(
      RefusalText(R"({"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_VAX"]})"),
      HasSubstr("architectures: unknown architecture \"SCMP_ARCH_VAX\""));
  const auto rule = [](std::string_view text) {
    return RefusalText(std::string(R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[)") +
                       std::string(text) + "]}");
  };
  EXPECT_THAT(rule("1"), HasSubstr("syscalls[0]: must be an object"));
  EXPECT_THAT(rule(R"({"names":["a"]})"), HasSubstr("syscalls[0].action: is missing"));
  EXPECT_THAT(rule(R"({"names":"a","action":"SCMP_ACT_KILL"})"),
              HasSubstr("syscalls[0].names: must be a list of strings"));
  const auto arg = [&](std::string_view text) {
    return rule(R"({"names":["a"],"action":"SCMP_ACT_KILL","args":[)" + std::string(text) + "]}");
  };
  EXPECT_THAT(arg(R"({"index":6,"value":0,"op":"SCMP_CMP_EQ"})"),
              HasSubstr("syscalls[0].args[0].index: must be an integer in 0..5"));
  EXPECT_THAT(arg(R"({"index":0,"value":-1,"op":"SCMP_CMP_EQ"})"), HasSubstr("args[0].value"));
  EXPECT_THAT(arg(R"({"index":0,"value":0,"op":"=="})"),
              HasSubstr("args[0].op: unknown operator \"==\""));
  std::string seven;
  for (int i = 0; i < 7; ++i) {
    seven += std::string(i == 0 ? "" : ",") + R"({"index":0,"value":0,"op":"SCMP_CMP_EQ"})";
  }
  EXPECT_THAT(arg(seven), HasSubstr("more than 6 conditions"));
}

TEST(MergeSeccompTest, RefusesWhatItCannotSayExactly) {
  const auto rules = [](std::string_view text, std::string_view archs = "[]") {
    return RefusalText(std::string(R"({"defaultAction":"SCMP_ACT_ERRNO","architectures":)") +
                       std::string(archs) + R"(,"syscalls":[{"names":["read","socketcall"],
                       "action":"SCMP_ACT_ALLOW"},)" +
                       std::string(text) + "]}");
  };
  // Which of two overlapping rules wins depends on libseccomp.
  EXPECT_THAT(rules(R"({"names":["sendto"],"action":"SCMP_ACT_ALLOW",
                        "args":[{"index":0,"value":3,"op":"SCMP_CMP_NE"}]},
                       {"names":["sendto"],"action":"SCMP_ACT_KILL",
                        "args":[{"index":1,"value":3,"op":"SCMP_CMP_EQ"}]})"),
              HasSubstr("sendto: syscalls[1] and syscalls[2] give different actions"));
  EXPECT_THAT(rules(R"({"names":["sendto"],"action":"SCMP_ACT_ALLOW",
                        "args":[{"index":0,"value":4294967296,"op":"SCMP_CMP_NE"}]})",
                    R"(["SCMP_ARCH_X86"])"),
              HasSubstr("compares with more than 32 bits"));
  EXPECT_THAT(rules(R"({"names":["sendto"],"action":"SCMP_ACT_ALLOW","args":[
                         {"index":0,"value":3,"op":"SCMP_CMP_NE"},{"index":1,"value":3,"op":"SCMP_CMP_EQ"}]},
                       {"names":["sendto"],"action":"SCMP_ACT_ALLOW","args":[
                         {"index":0,"value":9,"op":"SCMP_CMP_NE"},{"index":2,"value":3,"op":"SCMP_CMP_EQ"}]})"),
              HasSubstr("inequalities before their last arguments"));
}

// {arg0 <= 2, arg1 > 0} and {arg0 <= 2, arg1 == 0}: libseccomp 2.5.4 loops for ever on this pair.
TEST(MergeSeccompTest, SplitsInequalitiesThatLibseccompCannotBuild) {
  const ArgCondition low = {0, Compare::kLessOrEqual, 2, 0};
  const SeccompPlan plan = {{{"sendto",
                              {{{low, {1, Compare::kGreater, 0, 0}}, FilterAction::kNotify, 0},
                               {{low, {1, Compare::kEqual, 0, 0}}, FilterAction::kErrno, 5},
                               {{{0, Compare::kGreater, 2, 0}}, FilterAction::kAllow, 0}}},
                             {"connect", {kNotifyAll}},
                             {"socketcall", {kNotifyAll}}}};
  const Json merged = Merged(R"({"defaultAction":"SCMP_ACT_ALLOW"})", plan);
  EXPECT_THAT(RulesFor(merged, "sendto"), testing::Not(HasSubstr("SCMP_CMP_LE")));
  EXPECT_THAT(RulesFor(merged, "sendto"), HasSubstr("SCMP_CMP_MASKED_EQ"));
}

// On an architecture that lacks a system call libseccomp 2.5.4 may put its rule first in the
// filter and forget to load the number: the filter then decides nothing there.
// getpriority(2), of which one value is allowed and all others are named.
SeccompPlan PlanOfManyNotified() {
  const auto masked = [](uint64_t mask, uint64_t value) {
    return ArgCondition{0, Compare::kMaskedEqual, mask, value};
  };
  SyscallPlan plan{.name = "getpriority", .branches = {}};
  plan.branches.push_back({{masked(0x7, 0x2)}, FilterAction::kAllow, 0});
  for (const auto& condition : {masked(0x4, 0x4), masked(0x1, 0x1), masked(0x3, 0x0)}) {
    plan.branches.push_back({{condition}, FilterAction::kNotify, 0});
  }
  return {{plan}};
}

constexpr std::string_view kRest =
    R"({"names":["getpriority"],"action":"SCMP_ACT_ALLOW","args":[)"
    R"({"index":0,"value":7,"valueTwo":2,"op":"SCMP_CMP_MASKED_EQ"}]})"
    "\n"
    R"({"names":["getpriority"],"action":"SCMP_ACT_NOTIFY","args":[)"
    R"({"index":0,"value":4,"valueTwo":4,"op":"SCMP_CMP_MASKED_EQ"}]})"
    "\n"
    R"({"names":["getpriority"],"action":"SCMP_ACT_NOTIFY","args":[)"
    R"({"index":0,"value":4,"valueTwo":0,"op":"SCMP_CMP_MASKED_EQ"}]})"
    "\n";

TEST(MergeSeccompTest, NamesWhatIsAllowedAndAsksAboutTheRest) {
  const std::string_view section =
      R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
          {"names":["read","getpriority"],"action":"SCMP_ACT_ALLOW"}]})";
  const Json merged = Merged(section, PlanOfManyNotified());
  EXPECT_EQ(RulesFor(merged, "getpriority"), kRest);
  EXPECT_EQ(Merged(merged.dump(), PlanOfManyNotified()), merged);
  // The last of them first, it would take all.
  Json turned = merged;
  std::swap(turned["syscalls"][1], turned["syscalls"][3]);
  EXPECT_THAT(Refusal(turned.dump(), PlanOfManyNotified()).what, HasSubstr("another policy"));
  // Only two of the three.
  Json cut = merged;
  cut["syscalls"].erase(2);
  EXPECT_THAT(Refusal(cut.dump(), PlanOfManyNotified()).what, HasSubstr("another policy"));
}

TEST(MergeSeccompTest, AsksAboutNothingThatTheEngineDenies) {
  // What the engine's rules leave to its default, and what they deny by another errno.
  for (const std::string_view section :
       {R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["getpriority"],
            "action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":9,"op":"SCMP_CMP_EQ"}]}]})",
        R"({"defaultAction":"SCMP_ACT_ALLOW","syscalls":[]})"}) {
    const std::string rules = RulesFor(Merged(section, PlanOfManyNotified()), "getpriority");
    EXPECT_THAT(rules, HasSubstr(R"("value":3,"valueTwo":0)")) << "all are named: " << rules;
  }
  const std::string rules = RulesFor(Merged(R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
          {"names":["getpriority"],"action":"SCMP_ACT_ERRNO","errnoRet":22,
           "args":[{"index":0,"value":0,"op":"SCMP_CMP_EQ"}]},
          {"names":["getpriority"],"action":"SCMP_ACT_ALLOW",
           "args":[{"index":0,"value":0,"op":"SCMP_CMP_NE"}]}]})",
                                            PlanOfManyNotified()),
                                     "getpriority");
  EXPECT_TRUE(rules.starts_with(R"({"names":["getpriority"],"action":"SCMP_ACT_ERRNO")")) << rules;
  EXPECT_TRUE(rules.ends_with(kRest)) << rules;
}

TEST(MergeSeccompTest, NoticesAFilterThatIgnoresAnArchitecture) {
  const SeccompPlan plan = {{{"socketcall", {kNotifyAll}},
                             {"sendto",
                              {{{{4, Compare::kEqual, 0, 0}}, FilterAction::kAllow, 0},
                               {{{4, Compare::kNotEqual, 0, 0}}, FilterAction::kNotify, 0}}}}};
  EXPECT_THAT(RefusalText("null", plan), HasSubstr("libseccomp does not build the filter"));
}

TEST(MergeSeccompTest, RefusesMalformedPlans) {
  const auto with = [](std::vector<FilterBranch> branches, const char* name = "mount") {
    return RefusalText("null", {{{name, std::move(branches)}}});
  };
  const ArgCondition zero = {0, Compare::kEqual, 0, 0};
  EXPECT_THAT(with({}), HasSubstr("leave some arguments undecided"));
  EXPECT_THAT(with({{{zero}, FilterAction::kNotify, 0}}), HasSubstr("undecided"));
  EXPECT_THAT(with({kNotifyAll, {{zero}, FilterAction::kAllow, 0}}), HasSubstr("overlap"));
  EXPECT_THAT(with({{{}, FilterAction::kErrno, 0}}), HasSubstr("errno 0 is not in 1..4095"));
  EXPECT_THAT(with({{{}, FilterAction::kErrno, 4096}}), HasSubstr("errno 4096"));
  EXPECT_THAT(with({{{zero, zero}, FilterAction::kAllow, 0}}), HasSubstr("two conditions"));
  EXPECT_THAT(with({kNotifyAll}, "write"), HasSubstr("refuses to notify write"));
  EXPECT_THAT(RefusalText("null", {{{"mount", {kNotifyAll}}, {"mount", {kNotifyAll}}}}),
              HasSubstr("names mount twice"));
}

// What an allow-list asks: some calls stay, some get EACCES, all others ENOSYS.
SeccompPlan ClosedPlan() {
  SeccompPlan plan = Plan();
  plan.syscalls.push_back({"read", {{{}, FilterAction::kAllow, 0}}});
  plan.syscalls.push_back({"write", {{{}, FilterAction::kAllow, 0}}});
  plan.syscalls.push_back({"mount", {{{}, FilterAction::kErrno, EACCES}}});
  plan.syscalls.push_back({"ptrace", {{{}, FilterAction::kErrno, EACCES}}});
  plan.others_errno = ENOSYS;
  return plan;
}

TEST(MergeClosedTest, TurnsADefaultThatAllowsIntoOneThatRefuses) {
  const Json merged = Merged(R"({"defaultAction":"SCMP_ACT_LOG","syscalls":[
      {"names":["ptrace","keyctl"],"action":"SCMP_ACT_KILL"},
      {"names":["bpf","mount"],"action":"SCMP_ACT_LOG"},
      {"names":["setns"],"action":"SCMP_ACT_ALLOW"}]})",
                             ClosedPlan());
  EXPECT_EQ(merged["defaultAction"], "SCMP_ACT_ERRNO");
  EXPECT_EQ(merged["defaultErrnoRet"], ENOSYS);
  EXPECT_EQ(RulesFor(merged, "read"), R"({"names":["read","write"],"action":"SCMP_ACT_LOG"})"
                                      "\n");
  EXPECT_EQ(RulesFor(merged, "mount"),
            R"({"names":["mount"],"action":"SCMP_ACT_ERRNO","errnoRet":13})"
            "\n");
  EXPECT_EQ(RulesFor(merged, "ptrace"), R"({"names":["ptrace","keyctl"],"action":"SCMP_ACT_KILL"})"
                                        "\n")
      << "denied before, so denied in the same way";
  // Counted by runc, which answers ENOSYS above the largest number that is named.
  EXPECT_EQ(RulesFor(merged, "setns"),
            R"({"names":["bpf","setns"],"action":"SCMP_ACT_ERRNO","errnoRet":38})"
            "\n");
}

TEST(MergeClosedTest, LeavesWhatStaysAllowedAsTheEngineWroteIt) {
  const Json merged = Merged(R"({"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":1,"syscalls":[
      {"names":["read","mount","getpid"],"action":"SCMP_ACT_ALLOW","comment":"mine"},
      {"names":["write"],"action":"SCMP_ACT_ALLOW",
       "args":[{"index":0,"value":7,"op":"SCMP_CMP_EQ"}]},
      {"names":["write"],"action":"SCMP_ACT_KILL",
       "args":[{"index":1,"value":8,"op":"SCMP_CMP_EQ"}]}]})",
                             ClosedPlan());
  EXPECT_EQ(merged["defaultErrnoRet"], EPERM);
  EXPECT_EQ(merged["syscalls"][0].dump(),
            R"({"names":["read"],"action":"SCMP_ACT_ALLOW","comment":"mine"})");
  EXPECT_THAT(RulesFor(merged, "write"), HasSubstr("KILL"));
  EXPECT_EQ(RulesFor(merged, "mount"),
            R"({"names":["mount"],"action":"SCMP_ACT_ERRNO","errnoRet":13})"
            "\n");
  EXPECT_EQ(RulesFor(merged, "getpid"),
            R"({"names":["getpid"],"action":"SCMP_ACT_ERRNO","errnoRet":38})"
            "\n");
}

TEST(MergeClosedTest, IsIdempotentAndDoesNotBelieveThatASectionIsItsOwn) {
  const Json once = Merged("null", ClosedPlan());
  EXPECT_EQ(Merged(once.dump(), ClosedPlan()).dump(), once.dump());
  const auto tampered = [&](auto change) {
    Json section = once;
    change(section);
    return Refusal(section.dump(), ClosedPlan()).code;
  };
  EXPECT_EQ(tampered([](Json& section) { section["defaultAction"] = "SCMP_ACT_ALLOW"; }), EBUSY);
  EXPECT_EQ(tampered([](Json& section) {
              section["syscalls"].push_back({{"names", {"setns"}}, {"action", "SCMP_ACT_ALLOW"}});
            }),
            EBUSY);
  EXPECT_EQ(tampered([](Json& section) {
              section["syscalls"].push_back({{"names", {"getpid"}}, {"action", "SCMP_ACT_NOTIFY"}});
            }),
            EBUSY);
}

// A rule that says the default is skipped, and libseccomp then derives rules of socketcall from
// those of socket calls.
TEST(MergeClosedTest, GivesMultiplexersAnErrnoOfTheirOwn) {
  const std::string archs = R"("architectures":["SCMP_ARCH_X86_64","SCMP_ARCH_X86"])";
  const Json taken = Merged(R"({"defaultAction":"SCMP_ACT_ALLOW",)" + archs + R"(,"syscalls":[
      {"names":["socketcall"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]})",
                            ClosedPlan());
  EXPECT_EQ(taken["defaultErrnoRet"], EPERM);
  EXPECT_THAT(taken["syscalls"][0].dump(), HasSubstr("\"socketcall\""));
  SeccompPlan refused = ClosedPlan();
  refused.syscalls[1] = {"socketcall", {{{}, FilterAction::kErrno, EPERM}}};
  const Json merged = Merged(R"({"defaultAction":"SCMP_ACT_ERRNO",)" + archs + R"(,"syscalls":[
      {"names":["socketcall","connect","sendto","read"],"action":"SCMP_ACT_ALLOW"}]})",
                             refused);
  EXPECT_EQ(merged["syscalls"][0].dump(),
            R"({"names":["socketcall"],"action":"SCMP_ACT_ERRNO","errnoRet":38})");
}

TEST(MergeClosedTest, RefusesWhatNoFilterCanRefuse) {
  SeccompPlan plan = Plan();
  plan.syscalls.push_back({"oakum", {{{}, FilterAction::kErrno, EACCES}}});
  EXPECT_THAT(RefusalText("null", plan), HasSubstr("oakum: libseccomp does not know it"));
  Merged(R"({"defaultAction":"SCMP_ACT_ERRNO","syscalls":[
      {"names":["read","oakum"],"action":"SCMP_ACT_ALLOW"}]})",
         plan);
  plan.others_errno = ENOSYS;
  Merged("null", plan);
  plan.others_errno = 4096;
  EXPECT_THAT(RefusalText("null", plan), HasSubstr("errno 4096 is not in 1..4095"));
  plan = ClosedPlan();
  plan.syscalls.push_back({"shmget", {{{}, FilterAction::kErrno, EACCES}}});
  EXPECT_THAT(RefusalText("null", plan), HasSubstr("names calls of ipc but not ipc"));
}

TEST(SeccompArchTest, KnowsTheNativeArchitecture) {
  const SeccompArch* native = NativeArch();
  ASSERT_NE(native, nullptr);
  EXPECT_EQ(NativeAndCompatibleArchs().at(0), native->token);
  EXPECT_EQ(FindArch("X86_64"), FindArch("SCMP_ARCH_X86_64"));
  EXPECT_EQ(FindArch("nonsense"), nullptr);
}

}  // namespace
}  // namespace oakum::oci
