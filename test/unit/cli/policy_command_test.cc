// `oakum policy ...` as an operator types it.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "cli/oakum.h"
#include "oci/json.h"
#include "policy/container.h"
#include "policy/schema.h"

namespace oakum::cli {
namespace {

struct Result {
  int status = 0;
  std::string out;
  std::string err;
};

constexpr std::string_view kPolicy = R"({
  "version": 1,
  "proxies": {"tor": {"url": "socks5h://10.88.0.1:9050"}},
  "policies": {
    "tor-only": {
      "mode": "enforce", "proxy": "tor",
      "outgoing": {
        "allow": ["127.0.0.0/8", "10.1.0.0/16:443/tcp", "10.1.2.3:80"],
        "deny": ["10.1.2.3"]
      },
      "incoming": {
        "allow": ["0.0.0.0:8080/tcp from 10.0.0.0/8", "*:53/udp"],
        "deny": ["*:8080 from 10.1.0.0/16"]
      },
      "unix": {"deny": ["/run/*", "@*"], "allow": ["/run/app.sock"]}
    },
    "watch": {"mode": "audit"}
  },
  "containers": [
    {"match": {"image": "nginx*"}, "policy": "watch"},
    {"match": {"annotation": {"io.oakum.policy": "*"}}, "policy": "$io.oakum.policy"},
    {"match": {"name": "web"}, "policy": "tor-only"}
  ]
}
)";

class PolicyCommandTest : public ::testing::Test {
 protected:
  PolicyCommandTest() {
    char name[] = "/tmp/oakum-cli-test-XXXXXX";
    directory_ = mkdtemp(name);
    Write("policy.json", kPolicy);
    Write("config.json", R"({"socket": "/run/a.sock", "policy": ")" + Path("policy.json") + "\"}");
  }
  ~PolicyCommandTest() override { std::filesystem::remove_all(directory_); }

  void Write(const std::string& name, std::string_view text) const {
    std::ofstream(Path(name)) << text;
  }
  [[nodiscard]] std::string Path(const std::string& name) const { return directory_ + "/" + name; }

  [[nodiscard]] Result Run(std::vector<std::string> words) const {
    words.insert(words.begin(), "oakum");
    std::vector<const char*> argv;
    argv.reserve(words.size());
    for (const std::string& word : words) {
      argv.push_back(word.c_str());
    }
    std::ostringstream out;
    std::ostringstream err;
    const std::string config = Path("config.json");
    Context context{.out = out, .err = err, .config_variable = config.c_str()};
    const int status = RunOakum(static_cast<int>(argv.size()), argv.data(), context);
    return {.status = status, .out = out.str(), .err = err.str()};
  }

  // `oakum policy explain --policies FILE --policy POLICY WORDS...`
  [[nodiscard]] std::string ExplainIn(const std::string& file, const std::string& policy,
                                      const std::vector<std::string>& words) const {
    std::vector<std::string> all = {"policy",   "explain",  "--policies",
                                    Path(file), "--policy", policy};
    all.insert(all.end(), words.begin(), words.end());
    Result result = Run(all);
    EXPECT_EQ(result.status, kOk) << result.err;
    EXPECT_EQ(result.err, "");
    // Places without the folder, which changes from run to run.
    for (size_t at = result.out.find(directory_); at != std::string::npos;
         at = result.out.find(directory_)) {
      result.out.erase(at, directory_.size() + 1);
    }
    return result.out;
  }
  [[nodiscard]] std::string Explain(const std::vector<std::string>& words) const {
    return ExplainIn("policy.json", "tor-only", words);
  }

 private:
  std::string directory_;
};

TEST_F(PolicyCommandTest, Check) {
  const Result ok = Run({"policy", "check", Path("policy.json")});
  EXPECT_EQ(ok.status, kOk);
  EXPECT_EQ(ok.out, "ok: 2 policies, 3 container rules\n");
  EXPECT_EQ(ok.err, "");
  EXPECT_EQ(Run({"policy", "check"}).out, ok.out) << "the configured one";
  Write("bad.json", "{\"version\": 1,\n \"polices\": {}}");
  const Result bad = Run({"policy", "check", Path("bad.json")});
  EXPECT_EQ(bad.status, kFound);
  EXPECT_EQ(bad.out, "");
  EXPECT_EQ(bad.err, Path("bad.json") +
                         ":2:2: unknown key \"polices\" in a policy file; did you mean "
                         "\"policies\"?\n");
  Write("later.json",
        R"({"version": 1, "policies": {"p": {"mode": "audit", "on_leak": ["stack"]}}})");
  EXPECT_EQ(Run({"policy", "check", Path("later.json")}).err,
            Path("later.json") + ":1:64: \"on_leak\": not built yet\n");
  EXPECT_EQ(Run({"policy", "check", "/nowhere"}).status, kFound);
}

TEST_F(PolicyCommandTest, ExplainSaysWhichRuleAndWhy) {
  EXPECT_EQ(Explain({"connect", "10.1.2.3:443/tcp"}),
            "deny: connect 10.1.2.3:443/tcp\n"
            "  mode enforce: it is refused\n"
            "  decided by: outgoing.deny 10.1.2.3  (policy.json:9)\n"
            "  no say: outgoing.allow 10.1.2.3:80  (policy.json:8): it is for other ports\n"
            "  matches, but loses: outgoing.allow 10.1.0.0/16:443/tcp  (policy.json:8): its prefix "
            "is shorter (/16 against /32)\n");
  EXPECT_EQ(Explain({"connect", "10.1.2.3:80"}),
            "allow: connect 10.1.2.3:80\n"
            "  decided by: outgoing.allow 10.1.2.3:80  (policy.json:8)\n"
            "  way: direct\n"
            "  matches, but loses: outgoing.deny 10.1.2.3  (policy.json:9): it names no ports\n"
            "  no say: outgoing.allow 10.1.0.0/16:443/tcp  (policy.json:8): it is for other "
            "ports\n");
  EXPECT_EQ(Explain({"connect", "10.88.0.1:9050"}),
            "allow: connect 10.88.0.1:9050\n  decided by: proxy  (policy.json:3)\n"
            "  way: direct\n");
  EXPECT_EQ(
      Explain({"send", "0.0.0.0:53"}),
      "deny: send 0.0.0.0:53\n"
      "  mode enforce: it is refused\n"
      "  decided by: dns deny\n"
      "  note: 0.0.0.0 as a destination is 127.0.0.1\n"
      "  no say: outgoing.allow 127.0.0.0/8  (policy.json:8): dns is \"deny\" and it does not "
      "name port 53\n");
  EXPECT_EQ(Explain({"connect", "[64:ff9b::7f00:1]:80"}),
            "deny: connect [64:ff9b::7f00:1]:80\n"
            "  mode enforce: it is refused\n"
            "  decided by: outgoing.default deny\n"
            "  note: 64:ff9b::7f00:1 carries 127.0.0.1: the stricter decision of the two counts\n");
}

TEST_F(PolicyCommandTest, ExplainSaysHowItIsCarried) {
  Write("carried.json", R"({"version": 1,
"proxies": {"tor": {"url": "socks5h://10.88.0.1:9050"}, "corp": {"url": "http://me:secret@a.b:1"}},
"policies": {
"all": {"mode": "enforce", "proxy": "tor", "handshake": {"require": "socks5"},
"outgoing": {"default": "redirect", "allow": ["*.here.example"],
"redirect": ["*.corp via corp"]}},
"watch": {"mode": "audit", "proxy": "tor", "outgoing": {"default": "redirect"}},
"names": {"mode": "enforce", "dns": "allow",
"outgoing": {"allow": ["*.example.com:443"], "deny": ["10.0.0.0/8"]}}
}})");
  const auto explain = [&](const std::string& policy, const std::vector<std::string>& request) {
    return ExplainIn("carried.json", policy, request);
  };
  EXPECT_EQ(explain("all", {"connect", "1.2.3.4:80"}),
            "redirect: connect 1.2.3.4:80\n"
            "  mode enforce: it is carried\n"
            "  decided by: outgoing.default redirect\n"
            "  way: proxy: through the proxy tor (socks5h://10.88.0.1:9050)\n");
  EXPECT_EQ(explain("all", {"connect", "Www.Corp:80/tcp"}),
            "redirect: connect Www.Corp:80/tcp\n"
            "  mode enforce: it is carried\n"
            "  decided by: outgoing.redirect *.corp via corp  (carried.json:6)\n"
            "  way: proxy: through the proxy corp (http://a.b:1)\n");
  EXPECT_EQ(explain("all", {"connect", "www.here.example:80"}),
            "redirect: connect www.here.example:80\n"
            "  mode enforce: it is carried\n"
            "  decided by: outgoing.allow *.here.example  (carried.json:5)\n"
            "  way: proxy: through the proxy tor (socks5h://10.88.0.1:9050)\n"
            "  note: only the proxy can tell where the name leads\n");
  EXPECT_EQ(explain("all", {"send", "8.8.8.8:53"}),
            "redirect: send 8.8.8.8:53\n"
            "  mode enforce: it is carried\n"
            "  decided by: dns proxy\n"
            "  way: resolver: answered by the agent, with the proxy tor "
            "(socks5h://10.88.0.1:9050)\n");
  EXPECT_EQ(explain("all", {"connect", "10.88.0.1:9050"}),
            "allow: connect 10.88.0.1:9050\n"
            "  decided by: proxy  (carried.json:2)\n"
            "  way: checked: what is spoken to the proxy tor (socks5h://10.88.0.1:9050) must be as "
            "\"handshake\" says\n");
  EXPECT_EQ(explain("all", {"connect", "198.18.0.1:80"}),
            "deny: connect 198.18.0.1:80\n"
            "  mode enforce: it is refused\n"
            "  decided by: dns unknown address\n");
  EXPECT_EQ(explain("watch", {"connect", "1.2.3.4:80"}),
            "redirect: connect 1.2.3.4:80\n"
            "  mode audit: it passes, and is reported as what enforce would have redirected\n"
            "  decided by: outgoing.default redirect\n"
            "  way: proxy: through the proxy tor (socks5h://10.88.0.1:9050)\n");
  EXPECT_EQ(explain("names", {"connect", "www.example.com:443"}),
            "allow: connect www.example.com:443\n"
            "  decided by: outgoing.allow *.example.com:443  (carried.json:9)\n"
            "  way: direct\n"
            "  note: rules for its address may decide otherwise: ask for ADDRESS:PORT as NAME\n");
  EXPECT_EQ(
      explain("names", {"connect", "10.1.2.3:443", "as", "www.example.com"}),
      "deny: connect 10.1.2.3:443 as www.example.com\n"
      "  mode enforce: it is refused\n"
      "  decided by: outgoing.deny 10.0.0.0/8  (carried.json:9)\n"
      "  matches, but loses: outgoing.allow *.example.com:443  (carried.json:9): a name opens "
      "nothing that is denied by address\n");
  EXPECT_EQ(explain("names", {"send", "8.8.8.8:53"}),
            "allow: send 8.8.8.8:53\n"
            "  decided by: dns allow\n"
            "  way: resolver: asked of that server, the answer watched\n");
}

TEST_F(PolicyCommandTest, ExplainIncomingAndUnix) {
  EXPECT_EQ(Explain({"accept", "10.0.0.5:8080", "from", "10.1.1.1"}),
            "deny: accept 10.0.0.5:8080 from 10.1.1.1\n"
            "  mode enforce: it is refused\n"
            "  decided by: incoming.deny *:8080 from 10.1.0.0/16  (policy.json:13)\n"
            "  matches, but loses: incoming.allow 0.0.0.0:8080/tcp from 10.0.0.0/8  "
            "(policy.json:12): its \"from\" is wider (/8 against /16)\n"
            "  no say: incoming.allow *:53/udp  (policy.json:12): it is for another protocol\n");
  EXPECT_EQ(Explain({"bind", "0.0.0.0:0"}),
            "allow: bind 0.0.0.0:0\n"
            "  decided by: incoming ephemeral\n"
            "  note: binding to port 0 only chooses a port; what listens there is decided at "
            "listen(2)\n");
  EXPECT_EQ(Explain({"unix", "/run/app.sock"}),
            "allow: unix /run/app.sock\n"
            "  decided by: unix.allow /run/app.sock  (policy.json:15)\n"
            "  matches, but loses: unix.deny /run/*  (policy.json:15): its literal part is "
            "shorter\n");
}

TEST_F(PolicyCommandTest, ExplainContainers) {
  EXPECT_EQ(Run({"policy", "explain", "--container", "name=web,image=nginx:1"}).out,
            "policy: watch  (rule at " + Path("policy.json") + ":20)\n");
  const Result chosen = Run({"policy", "explain", "--container", "name=web", "--container",
                             "annotation.io.oakum.policy=tor-only", "connect", "1.2.3.4:80/udp"});
  EXPECT_EQ(chosen.out, "policy: tor-only  (rule at " + Path("policy.json") +
                            ":21)\n"
                            "deny: connect 1.2.3.4:80/udp\n"
                            "  mode enforce: it is refused\n"
                            "  decided by: outgoing.default deny\n");
  const Result none = Run({"policy", "explain", "--container", "name=other"});
  EXPECT_EQ(none.status, kFound);
  EXPECT_NE(none.err.find("no rule in \"containers\" matches"), std::string::npos);
}

TEST_F(PolicyCommandTest, BadCommandLinesAreOneLine) {
  const auto error = [&](const std::vector<std::string>& words) {
    const Result result = Run(words);
    EXPECT_EQ(result.status, kUsage);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    return result.err;
  };
  EXPECT_EQ(error({}), "oakum: A subcommand is required; see oakum --help\n");
  EXPECT_EQ(error({"polcy"}), "oakum: unknown command \"polcy\"; did you mean \"policy\"?\n");
  EXPECT_EQ(error({"policy", "chck"}),
            "oakum: unknown command \"chck\"; did you mean \"check\"?\n");
  EXPECT_NE(error({"policy", "explain", "--polcy", "x"}).find("--polcy"), std::string::npos);
  EXPECT_EQ(error({"policy", "explain", "connect", "1.2.3.4:5"}),
            "oakum: policy explain needs --policy NAME or --container KEY=VALUE,...\n");
  EXPECT_EQ(error({"policy", "explain", "--policy", "p", "conect", "1.2.3.4:5"}),
            "oakum: unknown request \"conect\"; did you mean \"connect\"?\n");
  EXPECT_EQ(error({"policy", "explain", "--policy", "p", "connect", "1.2.3.4"}),
            "oakum: \"1.2.3.4\" has no port; write ADDRESS:PORT\n");
  EXPECT_EQ(error({"policy", "explain", "--container", "nam=x"}),
            "oakum: unknown key \"nam\" in --container; did you mean \"name\"?\n");
  EXPECT_NE(error({"policy", "seccomp"}).find("--policy is required"), std::string::npos);
  EXPECT_NE(
      error({"policy", "explain", "--config", "/nowhere", "--policy", "p", "connect", "1.2.3.4:5"})
          .find("No such file"),
      std::string::npos);
}

TEST_F(PolicyCommandTest, UnknownPolicy) {
  const Result result = Run({"policy", "explain", "--policy", "tor-olny", "connect", "1.2.3.4:5"});
  EXPECT_EQ(result.status, kFound);
  EXPECT_EQ(result.err, "oakum: there is no policy \"tor-olny\"; did you mean \"tor-only\"?\n");
}

TEST_F(PolicyCommandTest, Schema) {
  const Result result = Run({"policy", "schema"});
  EXPECT_EQ(result.status, kOk);
  EXPECT_EQ(result.out, policy::SchemaText());
}

TEST_F(PolicyCommandTest, Help) {
  for (const std::vector<std::string>& words : std::vector<std::vector<std::string>>{
           {"--help"}, {"policy", "--help"}, {"policy", "explain", "--help"}}) {
    const Result result = Run(words);
    EXPECT_EQ(result.status, kOk);
    EXPECT_NE(result.out.find("Usage: oakum"), std::string::npos) << result.out;
  }
  EXPECT_EQ(Run({"--version"}).out.substr(0, 6), "oakum ");
}

TEST_F(PolicyCommandTest, Seccomp) {
  const Result result = Run({"policy", "seccomp", "--policy", "tor-only"});
  ASSERT_EQ(result.status, kOk) << result.err;
  const auto section = oci::ParseJson(result.out, "out");
  ASSERT_TRUE(section);
  EXPECT_EQ(section->at("listenerPath"), "/run/a.sock");
  const auto metadata =
      policy::DecodeListenerMetadata(section->at("listenerMetadata").get<std::string>());
  ASSERT_TRUE(metadata);
  EXPECT_EQ(metadata->policy, "tor-only");
  EXPECT_EQ(section->at("defaultAction"), "SCMP_ACT_ALLOW");
  EXPECT_EQ(Run({"policy", "seccomp", "--policy", "tor-only", "--socket", "rel"}).err,
            "oakum: --socket \"rel\" is not an absolute path\n");
}

TEST_F(PolicyCommandTest, ExplainSaysWhatBecomesOfASystemCall) {
  Write("policy.json", R"({"version": 1, "policies": {
    "tor-only": {"mode": "enforce", "syscalls": {"base": "strict", "allow": ["unshare"],
                                                 "deny": ["bind"], "errno": 4000}},
    "open": {"mode": "enforce"}, "watch": {"mode": "audit", "syscalls": {"base": "strict"}}},
    "containers": []})");
  const auto first_lines = [&](const std::string& policy, const std::string& call) {
    const Result result = Run({"policy", "explain", "--policy", policy, "syscall", call});
    EXPECT_EQ(result.status, kOk) << result.err;
    return result.out.substr(0, result.out.find("\n", result.out.find("\n") + 1));
  };
  EXPECT_EQ(first_lines("tor-only", "ptrace"),
            "deny (4000): syscall ptrace\n  decided by: syscalls.base strict");
  EXPECT_EQ(first_lines("tor-only", "unshare"),
            "allow: syscall unshare\n  decided by: syscalls.allow unshare");
  EXPECT_EQ(first_lines("tor-only", "socketcall"),
            "deny (4000): syscall socketcall\n  decided by: syscalls.deny bind");
  EXPECT_EQ(first_lines("tor-only", "connect"),
            "decided by its arguments: syscall connect\n  decided by: the guard");
  EXPECT_EQ(first_lines("tor-only", "clone"),
            "allow, but for some arguments: syscall clone\n  decided by: syscalls.base strict");
  EXPECT_EQ(first_lines("tor-only", "clone3"),
            "deny (ENOSYS): syscall clone3\n  decided by: syscalls.base strict");
  EXPECT_EQ(first_lines("open", "io_uring_setup"),
            "deny (ENOSYS): syscall io_uring_setup\n  decided by: the guard");
  EXPECT_EQ(first_lines("open", "ptrace"),
            "allow: syscall ptrace\n  decided by: syscalls.base keep");
  EXPECT_EQ(first_lines("watch", "ptrace"), "allow: syscall ptrace\n  decided by: mode audit");
  EXPECT_EQ(Run({"policy", "explain", "--policy", "open", "syscall", "ptrac"}).err,
            "oakum: there is no system call \"ptrac\"; did you mean \"ptrace\"?\n");
  EXPECT_EQ(Run({"policy", "explain", "--policy", "open", "syscall"}).err,
            "oakum: write: syscall NAME\n");
  const Result why = Run({"policy", "explain", "--policy", "tor-only", "syscall", "keyctl"});
  EXPECT_NE(why.out.find("\"strict\" refuses it under \"keys\": The kernel's keyrings"),
            std::string::npos);
}

TEST_F(PolicyCommandTest, SeccompOnTopOfAProfile) {
  Write("base.json", R"({
    "defaultAction": "SCMP_ACT_ERRNO",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": []},
                {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": []}],
    "syscalls": [
      {"names": ["connect", "read"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {}},
      {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}}
    ]})");
  const auto names = [&](const std::vector<std::string>& more) {
    std::vector<std::string> words = {"policy",   "seccomp", "--policy",
                                      "tor-only", "--base",  Path("base.json")};
    words.insert(words.end(), more.begin(), more.end());
    const Result result = Run(words);
    EXPECT_EQ(result.status, kOk) << result.err;
    return result.out;
  };
  const std::string plain = names({});
  EXPECT_NE(plain.find("\"read\""), std::string::npos);
  EXPECT_NE(plain.find("SCMP_ACT_NOTIFY"), std::string::npos);
  EXPECT_EQ(plain.find("\"bpf\""), std::string::npos);
  EXPECT_EQ(plain.find("archMap"), std::string::npos);
  EXPECT_NE(names({"--cap", "CAP_BPF"}).find("\"bpf\""), std::string::npos);
  Write("base.json", "[]");
  const Result bad =
      Run({"policy", "seccomp", "--policy", "tor-only", "--base", Path("base.json")});
  EXPECT_EQ(bad.status, kUsage);
  EXPECT_EQ(bad.err, "oakum: " + Path("base.json") + ": a profile is a JSON object\n");
}

}  // namespace
}  // namespace oakum::cli
