// The policy that the options of `oakum run` make.
#include "cli/run_policy.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <vector>

#include "policy/request.h"

namespace oakum::cli {
namespace {

using policy::Carry;
using policy::Operation;
using policy::Transport;
using policy::Verdict;

policy::InetRequest To(std::string_view ip, uint16_t port, Transport transport = Transport::kTcp) {
  return {.operation = Operation::kConnect,
          .transport = transport,
          .remote = {.ip = *policy::IpAddress::Parse(ip), .port = port},
          .local = {}};
}

std::shared_ptr<const policy::PolicySet> MustLoad(const RunPolicyOptions& options) {
  EXPECT_EQ(Conflict(options), "");
  auto set = LoadPolicies(options);
  if (!set) {
    ADD_FAILURE() << set.error().ToString();
    return nullptr;
  }
  return *set;
}

TEST(RunPolicyTest, AProxyCarriesEverything) {
  RunPolicyOptions options;
  options.proxy = "socks5h://me:secret@127.0.0.1:9050";
  options.allow = {"10.0.0.0/8"};
  options.deny = {"*:25", "bad.example"};
  const auto set = MustLoad(options);
  const policy::Policy& policy = **ChoosePolicy(*set, options);
  EXPECT_EQ(policy.mode(), policy::Mode::kEnforce);
  EXPECT_EQ(policy.dns().rule, policy::DnsRule::kProxy);
  EXPECT_EQ(policy.proxy()->urls[0].password, "secret");
  const policy::Decision web = policy.Decide(To("1.2.3.4", 443));
  EXPECT_EQ(web.verdict, Verdict::kRedirect);
  EXPECT_EQ(web.carry, Carry::kProxy);
  EXPECT_EQ(policy.Decide(To("1.2.3.4", 53, Transport::kUdp)).carry, Carry::kResolver);
  EXPECT_EQ(policy.Decide(To("127.0.0.53", 53, Transport::kUdp)).carry, Carry::kResolver);
  EXPECT_EQ(policy.Decide(To("127.0.0.1", 80)).verdict, Verdict::kAllow);
  EXPECT_EQ(policy.Decide(To("127.0.0.1", 9050)).rule, "proxy");
  EXPECT_EQ(policy.Decide(To("::1", 80)).verdict, Verdict::kAllow);
  EXPECT_EQ(policy.Decide(To("10.1.2.3", 80)).verdict, Verdict::kAllow);
  EXPECT_EQ(policy.Decide(To("1.2.3.4", 25)).verdict, Verdict::kDeny);
}

TEST(RunPolicyTest, ServicesThatResolveOrConnectAreDenied) {
  RunPolicyOptions options;
  options.proxy = "socks5h://127.0.0.1:9050";
  const auto set = MustLoad(options);
  const policy::Policy& policy = **ChoosePolicy(*set, options);
  EXPECT_TRUE(policy.guards_unix());
  for (const char* path :
       {"/run/nscd/socket", "/var/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve",
        "/run/avahi-daemon/socket", "/run/dbus/system_bus_socket", "/run/docker.sock"}) {
    EXPECT_EQ(policy.Decide(policy::UnixRequest{.name = path}).verdict, Verdict::kDeny) << path;
  }
  EXPECT_EQ(policy.Decide(policy::UnixRequest{.name = "/tmp/.X11-unix/X0"}).verdict,
            Verdict::kAllow);
}

TEST(RunPolicyTest, OptionsOfTheProxy) {
  RunPolicyOptions options;
  options.proxy = "socks5h://10.0.0.1:9050";
  options.isolate = "destination";
  options.resolve = "tor";
  options.mode = "audit";
  const auto set = MustLoad(options);
  const policy::Policy& policy = **ChoosePolicy(*set, options);
  EXPECT_EQ(policy.mode(), policy::Mode::kAudit);
  EXPECT_EQ(policy.proxy()->isolate, policy::Isolation::kDestination);
  EXPECT_EQ(policy.dns().resolve, policy::Resolve::kTor);
}

TEST(RunPolicyTest, AUrlCanStandInAFile) {
  char path[] = "/tmp/oakum-run-policy-XXXXXX";
  const int fd = mkstemp(path);
  ASSERT_GE(fd, 0);
  close(fd);
  std::ofstream(path) << "http://me:secret@10.0.0.1:3128\n# not this\n";
  RunPolicyOptions options;
  options.proxy = "@" + std::string(path);
  const auto set = MustLoad(options);
  EXPECT_EQ((*ChoosePolicy(*set, options))->proxy()->urls[0].password, "secret");
  unlink(path);
}

// What /proc/PID/cmdline shows afterwards.
std::string Shown(std::vector<std::string> words) {
  std::vector<std::string> before = words;
  std::vector<char*> argv;
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  EXPECT_EQ(TakeArguments(static_cast<int>(argv.size()), argv.data()), before);
  std::string shown;
  for (const char* word : argv) {
    shown += (shown.empty() ? "" : " ") + std::string(word);
  }
  for (const std::string& word : words) {
    EXPECT_EQ(word.find("secret"), std::string::npos) << "also behind the end";
  }
  return shown;
}

TEST(RunPolicyTest, CredentialsAreTakenOutOfTheArguments) {
  EXPECT_EQ(Shown({"oakum", "run", "--proxy", "socks5h://me:secret@h:1", "true"}),
            "oakum run --proxy socks5h://h:1 true");
  EXPECT_EQ(Shown({"oakum", "run", "--proxy=http://secret:secret@[::1]:1", "true"}),
            "oakum run --proxy=http://[::1]:1 true");
  EXPECT_EQ(Shown({"oakum", "run", "--proxy", "http://a:secr@et:secret@h:1/"}),
            "oakum run --proxy http://h:1/");
  EXPECT_EQ(Shown({"oakum", "run", "--proxy", "me:secret@h:1"}), "oakum run --proxy h:1");
  EXPECT_EQ(Shown({"oakum", "run", "--proxy", "me:secret@socks5h://h:1"}),
            "oakum run --proxy socks5h://h:1");
  EXPECT_EQ(Shown({"oakum", "run", "--proxy", "@/run/url", "x"}), "oakum run --proxy @/run/url x");
  EXPECT_EQ(Shown({"oakum", "run", "--proxy"}), "oakum run --proxy");
  EXPECT_EQ(Shown({"oakum"}), "oakum");
}

TEST(RunPolicyTest, TheVariableIsTakenOutOfTheEnvironment) {
  EXPECT_EQ(TakeProxyVariable(), std::nullopt);
  setenv(kProxyVariable, "socks5://me:secret@10.0.0.1:1", 1);
  const char* const where = getenv(kProxyVariable);
  EXPECT_EQ(TakeProxyVariable(), "socks5://me:secret@10.0.0.1:1");
  EXPECT_EQ(getenv(kProxyVariable), nullptr);
  EXPECT_EQ(*where, '\0');
  setenv(kProxyVariable, "", 1);
  EXPECT_EQ(TakeProxyVariable(), std::nullopt);
}

}  // namespace
}  // namespace oakum::cli
