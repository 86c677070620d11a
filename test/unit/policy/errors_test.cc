// What a wrong policy file gets: place, what is wrong, and what would be right.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <seccomp.h>

#include <string>
#include <string_view>

#include "policy/checked.h"
#include "policy_testing.h"

namespace oakum::policy {
namespace {

using testing::ErrorOf;
using testing::InPolicy;
using testing::MustParse;
using testing::OnePolicy;
using testing::WithoutPlace;

TEST(ErrorsTest, File) {
  EXPECT_EQ(ErrorOf("[]"), "test.json:1:1: a policy file must be an object, not an array");
  EXPECT_EQ(ErrorOf("{}"), "test.json:1:1: a policy file needs the key \"version\"");
  EXPECT_EQ(ErrorOf(R"({"version": 2})"),
            "test.json:1:13: \"version\" must be 1: this program knows no other");
  EXPECT_EQ(ErrorOf(R"({"version": "1"})"),
            "test.json:1:13: \"version\" must be 1: this program knows no other");
  EXPECT_EQ(ErrorOf("{\"version\": 1,\n  \"polices\": {}}"),
            "test.json:2:3: unknown key \"polices\" in a policy file; did you mean \"policies\"?");
  EXPECT_EQ(ErrorOf(R"({"version": 1, "policies": []})"),
            "test.json:1:28: \"policies\" must be an object, not an array");
  EXPECT_EQ(ErrorOf(R"({"version": 1, "policies": {"": {"mode": "audit"}}})"),
            "test.json:1:29: \"\" is no name for a policy: 1 to 128 letters, digits, \"-\", \"_\" "
            "or \".\", not starting with \".\"");
  EXPECT_EQ(ErrorOf(R"({"version": 1, "policies": {"p": {}}})"),
            "test.json:1:34: a policy needs the key \"mode\"");
}

TEST(ErrorsTest, Policy) {
  EXPECT_EQ(WithoutPlace(ErrorOf(OnePolicy("", "enforc"))),
            "\"enforc\" is no value of \"mode\"; did you mean \"enforce\"?");
  EXPECT_EQ(InPolicy(R"("outgoin": {})"),
            "unknown key \"outgoin\" in a policy; did you mean \"outgoing\"?");
  EXPECT_EQ(InPolicy(R"("proxy": "tro")"), "there is no proxy \"tro\"; did you mean \"tor\"?");
  EXPECT_EQ(InPolicy(R"("proxy": 1)"), "\"proxy\" must be a string, not a number");
  EXPECT_EQ(InPolicy(R"("outgoing": {"default": "denny"})"),
            "\"denny\" is no value of \"outgoing.default\"; did you mean \"deny\"?");
  EXPECT_EQ(InPolicy(R"("outgoing": {"alow": []})"),
            "unknown key \"alow\" in \"outgoing\"; did you mean \"allow\"?");
  EXPECT_EQ(InPolicy(R"("outgoing": {"allow": "10.0.0.1"})"),
            "\"allow\" must be an array, not a string");
  EXPECT_EQ(InPolicy(R"("outgoing": {"allow": [10]})"),
            "an element of \"allow\" must be a string, not a number");
  EXPECT_EQ(InPolicy(R"("outgoing": {"deny": ["10.1.2.3/8"]})"),
            "in the rule \"10.1.2.3/8\" of \"outgoing.deny\": \"10.1.2.3\" has bits set beyond its "
            "prefix; did you mean \"10.0.0.0/8\"?");
  EXPECT_EQ(InPolicy(R"("outgoing": {"allow": ["0.0.0.0:80"]})"),
            "\"0.0.0.0:80\": as a destination this address is loopback; write \"127.0.0.1\" or "
            "\"[::1]\", or \"*\" for every address");
  EXPECT_EQ(InPolicy(R"("incoming": {"redirect": []})"),
            "unknown key \"redirect\" in \"incoming\"; known are \"default\", \"allow\", \"deny\"");
  EXPECT_EQ(InPolicy(R"("incoming": {"allow": ["*:53/udp from 10.0.0.1"]})"),
            "\"*:53/udp from 10.0.0.1\": \"from\" cannot be enforced for udp, which has no "
            "connections to accept; leave out \"from\" or write \"/tcp\"");
  EXPECT_EQ(InPolicy(R"("unix": {"deny": ["run/x"]})"),
            "\"run/x\" is neither an absolute path nor an \"@abstract\" name");
  EXPECT_EQ(InPolicy(R"("unix": {"deny": ["/run/../x"]})"),
            "\"/run/../x\": a path without \"//\", \"/./\", \"/../\" or a slash at its end; links "
            "are followed before it is compared");
  EXPECT_EQ(InPolicy(R"("log": "leak")"),
            "\"leak\" is no value of \"log\"; did you mean \"leaks\"?");
}

TEST(ErrorsTest, ColumnsPointIntoTheRule) {
  EXPECT_EQ(ErrorOf("{\"version\": 1, \"policies\": {\"p\": {\"mode\": \"audit\",\n"
                    "\"outgoing\": {\"allow\": [\"10.0.0.1:x\"]}}}}"),
            "test.json:2:34: in the rule \"10.0.0.1:x\" of \"outgoing.allow\": \"x\" is neither a "
            "port (1 to 65535) nor a range such as \"8000-8999\"");
}

TEST(ErrorsTest, AProxyThatIsDenied) {
  constexpr std::string_view kWhat = "(line 1) forbids the policy's own proxy \"tor\"";
  EXPECT_EQ(InPolicy(R"("proxy": "tor", "outgoing": {"deny": ["10.88.0.1:9050"]})"),
            "\"outgoing.deny 10.88.0.1:9050\" " + std::string(kWhat));
  EXPECT_EQ(InPolicy(R"("proxy": "tor", "outgoing": {"deny": ["10.88.0.1:9050/tcp"]})"),
            "\"outgoing.deny 10.88.0.1:9050/tcp\" " + std::string(kWhat));
  MustParse(OnePolicy(R"("proxy": "tor", "outgoing": {"deny": ["10.88.0.1:9050/udp"]})"));
  MustParse(OnePolicy(R"("outgoing": {"deny": ["10.88.0.1:9050"]})"));
}

TEST(ErrorsTest, NotBuiltYet) {
  EXPECT_EQ(InPolicy(R"("on_leak": ["stack"])"), "\"on_leak\": not built yet");
  MustParse(OnePolicy(R"("on_leak": [])"));
}

TEST(ErrorsTest, Words) {
  EXPECT_EQ(InPolicy(R"("dns": "prxy")"),
            "\"prxy\" is no value of \"dns\"; did you mean \"proxy\"?");
  EXPECT_NE(ErrorOf(OnePolicy(R"("proxy": "tor", "handshake": {"require": "socks4"})"))
                .find("\"socks4\" is no value of \"require\"; did you mean \"socks5\"?"),
            std::string::npos);
  EXPECT_NE(ErrorOf(OnePolicy(R"("handshake": {"require": "socks5"})"))
                .find("\"handshake\" needs a \"proxy\" in the same policy"),
            std::string::npos);
  EXPECT_NE(
      ErrorOf(OnePolicy(R"("proxy": "tor", "handshake": {"require": "http", "isolation": "("})"))
          .find("\"(\" is not a regular expression"),
      std::string::npos);
  EXPECT_NE(ErrorOf(OnePolicy(R"("proxy": "tor",
                                 "handshake": {"require": "socks5", "isolation": "(a)\\1"})"))
                .find("(ECMAScript without back-references and look-ahead"),
            std::string::npos);
  EXPECT_EQ(InPolicy(R"("on_leak": ["stak"])"),
            "\"stak\" is no value of \"on_leak\"; did you mean \"stack\"?");
  EXPECT_NE(
      ErrorOf(OnePolicy(R"("outgoing": {"redirect": ["*:0"]})")).find("\"0\" is neither a port"),
      std::string::npos);
}

TEST(ErrorsTest, Syscalls) {
  MustParse(OnePolicy(R"("syscalls": {})"));
  MustParse(
      OnePolicy(R"("syscalls": {"base": "keep", "errno": 4095, "deny": ["ptrace", "ptrace"]})"));
  MustParse(OnePolicy(R"("syscalls": {"base": "strict", "errno": "ENOSYS", "allow": ["ptrace"],
                                      "deny": ["mkdir", "mseal"]})"));
  EXPECT_EQ(ErrorOf("{\"version\": 1, \"policies\": {\"p\": {\"mode\": \"audit\",\n"
                    "\"syscalls\": {\"allow\": [\"ptrac\"]}}}}"),
            "test.json:2:24: there is no system call \"ptrac\"; did you mean \"ptrace\"?");
  EXPECT_EQ(InPolicy(R"("syscalls": {"deny": ["Mount"]})"),
            "there is no system call \"Mount\"; did you mean \"mount\"?");
  EXPECT_EQ(InPolicy(R"("syscalls": {"base": "stric"})"),
            "\"stric\" is no value of \"base\"; did you mean \"strict\"?");
  EXPECT_EQ(InPolicy(R"("syscalls": {"errno": "ENOSY"})"),
            "\"ENOSY\" is no errno: a name like \"EPERM\" or a number in 1..4095; did you mean "
            "\"ENOSYS\"?");
  for (const char* number : {"0", "4096", "-1", "1.5", "\"\"", "99999999999999999999"}) {
    EXPECT_NE(InPolicy(fmt::format(R"("syscalls": {{"errno": {}}})", number)).find("is no errno"),
              std::string::npos)
        << number;
  }
  EXPECT_EQ(InPolicy(R"("syscalls": {"errno": ["EPERM"]})"),
            "\"errno\" must be a string, not an array");
  EXPECT_NE(InPolicy(R"("syscalls": {"allow": ["mkdir"], "deny": ["mkdir"]})")
                .find("\"mkdir\" stands in \"allow\" as well, at test.json:1:"),
            std::string::npos);
  EXPECT_EQ(InPolicy(R"("syscalls": {"allow": ["io_uring_setup"]})"),
            "\"io_uring_setup\" cannot be allowed: a ring connects and sends without system calls "
            "that could be guarded");
  // A filter cannot refuse what libseccomp has no number for, but a closed one lets nothing
  // through.
  if (seccomp_syscall_resolve_name("lsm_list_modules") == __NR_SCMP_ERROR) {
    EXPECT_NE(InPolicy(R"("syscalls": {"deny": ["lsm_list_modules"]})")
                  .find("does not know \"lsm_list_modules\""),
              std::string::npos);
  }
  MustParse(OnePolicy(R"("syscalls": {"base": "strict", "deny": ["lsm_list_modules"]})"));
}

TEST(ErrorsTest, Containers) {
  const auto containers = [](std::string_view rules) {
    return WithoutPlace(
        ErrorOf(R"({"version": 1, "policies": {"web": {"mode": "audit"}}, "containers": [)" +
                std::string(rules) + "]}"));
  };
  EXPECT_EQ(containers(R"({"match": {}})"), "a container rule needs the key \"policy\"");
  EXPECT_EQ(containers(R"({"policy": "web"})"), "a container rule needs the key \"match\"");
  EXPECT_EQ(containers(R"({"match": {}, "policy": "wbe"})"),
            "there is no policy \"wbe\"; did you mean \"web\"?");
  EXPECT_EQ(containers(R"({"match": {"imag": "x"}, "policy": "web"})"),
            "unknown key \"imag\" in \"match\"; did you mean \"image\"?");
  EXPECT_EQ(containers(R"({"match": {"engine": "dockr"}, "policy": "web"})"),
            "\"dockr\" is no value of \"engine\"; did you mean \"docker\"?");
  EXPECT_EQ(containers(R"({"match": {"name": ""}, "policy": "web"})"),
            "a pattern has 1 to 512 bytes; \"*\" matches everything");
  EXPECT_EQ(containers(R"({"match": {}, "policy": "$io.oakum.policy"})"),
            "\"$io.oakum.policy\" takes the policy from an annotation that \"match\" does not ask "
            "for; write \"match\": {\"annotation\": {\"io.oakum.policy\": \"*\"}}");
  EXPECT_EQ(
      containers(
          R"({"match": {"annotation": {"io.oakum.policy": "*"}}, "policy": "$io.oakm.policy"})"),
      "\"$io.oakm.policy\" takes the policy from an annotation that \"match\" does not ask for; "
      "did "
      "you mean \"$io.oakum.policy\"?");
}

TEST(ErrorsTest, SeveralInTheOrderOfTheFile) {
  const std::string error = ErrorOf(
      "{\"version\": 1, \"proxies\": {\"a\": {\"url\": \"x\"}},\n"
      "\"policies\": {\"p\": {\"mode\": \"m\",\n"
      "\"outgoing\": {\"deny\": [\"1.2.3\"]}, \"logg\": 1}}}");
  EXPECT_EQ(error,
            "test.json:1:41: a proxy is SCHEME://HOST:PORT, as in \"socks5h://10.88.0.1:9050\"\n"
            "test.json:2:28: \"m\" is no value of \"mode\"; known are \"audit\", \"enforce\", "
            "\"kill\"\n"
            "test.json:3:24: in the rule \"1.2.3\" of \"outgoing.deny\": \"1.2.3\" is neither an "
            "address, a prefix, a name, \"*.name\" nor \"*\"\n"
            "test.json:3:34: unknown key \"logg\" in a policy; did you mean \"log\"?");
}

TEST(ErrorsTest, Bounds) {
  std::string many = R"("outgoing": {"deny": [)";
  for (int i = 0; i < 100; ++i) {
    many += "\"x y\",";
  }
  const std::string error = ErrorOf(OnePolicy(many + "\"1.2.3.4\"]}"));
  EXPECT_NE(error.find("\n(and 80 more)"), std::string::npos) << error;
  EXPECT_NE(ErrorOf(OnePolicy(R"("proxy": ")" + std::string(5000, 'a') + "\""))
                .find("\"proxy\" is longer than 4096 bytes"),
            std::string::npos);
  std::string unix_rules = R"("unix": {"deny": ["/x")";
  for (size_t i = 0; i < kMaxUnixRules; ++i) {
    unix_rules += ",\"/x\"";
  }
  EXPECT_NE(ErrorOf(OnePolicy(unix_rules + "]}")).find("more than 4096 rules"), std::string::npos);
}

TEST(ErrorsTest, ControlCharactersCannotForgeLines) {
  const std::string error = ErrorOf(OnePolicy(R"("a\nb\u001b[31m": 1)"));
  EXPECT_EQ(error.find('\n'), std::string::npos);
  EXPECT_EQ(error.find('\x1b'), std::string::npos);
  EXPECT_NE(error.find(R"(unknown key "a\nb\x1b[31m")"), std::string::npos);
}

}  // namespace
}  // namespace oakum::policy
