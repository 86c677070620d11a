#include "cli/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

namespace oakum::cli {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kPolicy[] =
    R"({"version": 1, "policies": {"p": {"mode": "audit"}},
        "containers": [{"match": {}, "policy": "p"}]})";

// A root directory of the test's own in which everything is right, until a test changes it.
class DoctorTest : public ::testing::Test {
 protected:
  DoctorTest() {
    std::string name = ::testing::TempDir() + "oakum-doctor-XXXXXX";
    world_.root = mkdtemp(name.data());
    world_.kernel = {.listener_errno = 0,
                     .addfd_send = true,
                     .sync_wake_up = true,
                     .wait_killable = true,
                     .keeps_wait_killable = true,
                     .pidfd_getfd = true,
                     .pidfd_thread = true,
                     .io_uring = true};
    world_.run = [this](const std::vector<std::string>& command) -> Expected<std::string> {
      const auto found = outputs_.find(command[0].substr(world_.root.size()));
      if (found == outputs_.end()) {
        return MakeError(ENOENT, "cannot be run");
      }
      return found->second;
    };
    world_.ask_agent = [this](const std::string& control) -> Expected<oci::Json> {
      asked_ = control.substr(world_.root.size());
      if (agent_.is_null()) {
        return MakeError(ECONNREFUSED, "no agent answers");
      }
      return agent_;
    };
    agent_ = {{"ok", true}, {"socket", "/run/oakum/agent.sock"}, {"version", "1"}};
    agent_["policy"] = {{"path", "/etc/oakum/policy.d"}, {"error", nullptr}};
    Write("/etc/oakum/policy.d/a.json", kPolicy);
    Program("/usr/bin/runc", "runc version 1.1.5+ds1\nlibseccomp: 2.5.4\n");
    Program("/usr/bin/oakum-hook", "");
    Program("/usr/bin/oakum-runtime", "");
  }
  ~DoctorTest() override { std::filesystem::remove_all(world_.root); }

  void Write(const std::string& path, const std::string& text) {
    const std::filesystem::path full = world_.root + path;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  void Program(const std::string& path, const std::string& output) {
    Write(path, "#!/bin/false\n");
    ASSERT_EQ(chmod((world_.root + path).c_str(), 0755), 0);
    outputs_[path] = output;
  }
  void Remove(const std::string& path) { std::filesystem::remove_all(world_.root + path); }
  void Podman(const std::string& directory) {
    Program("/usr/bin/podman", "");
    Write(
        "/etc/containers/containers.conf.d/oakum.conf",
        "# hooks_dir = [\"/no\"]\n[engine]\nhooks_dir = [\n  \"/usr/share/containers/oci/hooks.d\","
        "\"/usr/share/oakum/hooks.d\"]\n");
    Write(directory + "/oakum.json",
          R"({"version": "1.0.0", "hook": {"path": "/usr/bin/oakum-hook"}, "when": {},
              "stages": ["precreate"]})");
  }
  void Docker(const std::string& daemon_json) {
    Program("/usr/sbin/dockerd", "Docker version 20.10.24+dfsg1, build 5d6db84\n");
    Write("/etc/docker/daemon.json", daemon_json);
  }

  std::vector<std::string> Lines() {
    std::vector<std::string> lines;
    for (const Finding& finding : Doctor(world_).Examine(config_)) {
      std::string line = RenderText({finding});
      line.pop_back();
      lines.push_back(line);
    }
    return lines;
  }
  void ExpectAllOk() { EXPECT_THAT(Lines(), Not(Contains(Not(::testing::StartsWith("ok: "))))); }
  void ExpectLine(const std::string& start, const std::string& part) {
    EXPECT_THAT(Lines(), Contains(AllOf(::testing::StartsWith(start), HasSubstr(part))));
  }

  DoctorWorld world_;
  Expected<policy::Config> config_ = policy::Config();
  oci::Json agent_;
  std::string asked_;
  std::map<std::string, std::string> outputs_;
};

TEST_F(DoctorTest, FindsNothingWhereAllIsWell) {
  ExpectAllOk();
  EXPECT_EQ(asked_, "/run/oakum/control.sock");
  Podman("/usr/share/oakum/hooks.d");
  Docker(R"({"default-runtime": "oakum",
             "runtimes": {"oakum": {"path": "/usr/bin/oakum-runtime"},
                          "shim": {"runtimeType": "io.containerd.runc.v2"}}})");
  ExpectAllOk();
  ExpectLine("ok: docker: ", "no annotations");
}

TEST_F(DoctorTest, KernelFeaturesThatAreNeededAreErrorsAndOthersWarnings) {
  world_.kernel = {.listener_errno = ENOSYS};
  ExpectLine("error: kernel: ", "user notification");
  ExpectLine("error: kernel: ", "pidfd_getfd");
  ExpectLine("warning: kernel: ", "SYNC_WAKE_UP");
  ExpectLine("warning: kernel: ", "PIDFD_THREAD");
  ExpectLine("warning: kernel: ", "io_uring");
  world_.kernel.listener_errno = EBUSY;
  EXPECT_THAT(Lines(), Not(Contains(HasSubstr("no seccomp user notification"))));
  ExpectLine("warning: kernel: ", "guarded itself");
}

TEST_F(DoctorTest, ConfigurationAndPolicyAreRead) {
  config_ = MakeError(EINVAL, "/etc/oakum/config.json:1:2: unknown key");
  ExpectLine("error: config: ", "config.json:1:2");
  Write("/etc/oakum/policy.d/a.json", "{\n \"version\": 1,\n \"polices\": {}\n}\n");
  ExpectLine("error: policy: ", "a.json:3:2");
  Write("/etc/oakum/policy.d/a.json", R"({"version": 1, "policies": {"p": {"mode": "audit"}}})");
  ExpectLine("warning: policy: ", "no container rule");
}

TEST_F(DoctorTest, TheAgentHasToAnswerForTheSameFiles) {
  agent_["policy"]["path"] = "/elsewhere";
  ExpectLine("warning: agent: ", "/elsewhere");
  agent_["policy"]["error"] = "a.json:3:2: wrong";
  ExpectLine("error: agent: ", "a.json:3:2");
  agent_["socket"] = "/run/other.sock";
  ExpectLine("error: agent: ", "/run/other.sock");
  agent_ = nullptr;
  ExpectLine("error: agent: ", "start it");
}

TEST_F(DoctorTest, RuntimesHaveToTakeAListener) {
  Program("/usr/bin/runc", "runc version 1.0.3\nlibseccomp: 2.5.4\n");
  ExpectLine("error: runtime: ", "ignores listenerPath");
  Program("/usr/bin/runc", "runc version 1.1.5\n");
  ExpectLine("error: runtime: ", "without seccomp");
  Program("/usr/bin/crun", "crun version 1.8.1\n+SYSTEMD +SECCOMP\n");
  ExpectLine("ok: runtime: ", "/usr/bin/crun");
  Program("/usr/bin/crun", "crun version 0.18\n+SECCOMP\n");
  ExpectLine("error: runtime: ", "crun version 0.18");
  Program("/usr/bin/crun", "youki version 1\n");
  ExpectLine("warning: runtime: ", "neither runc nor crun");
  config_->runtime = "/opt/runc";
  ExpectLine("error: runtime: ", "\"/opt/runc\"");
  config_->runtime = "";
  Remove("/usr/bin/runc");
  Remove("/usr/bin/crun");
  ExpectLine("error: runtime: ", "neither runc nor crun is there");
}

TEST_F(DoctorTest, SaysWhetherSignalsWait) {
  ExpectLine("ok: signals: /usr/bin/runc", "not used: the runtime does not take it");
  Program("/usr/bin/crun", "crun version 1.8.1\n+SYSTEMD +SECCOMP\n");
  ExpectLine("ok: signals: /usr/bin/crun", "is used (not by podman's hook");
  config_->wait_killable = policy::WaitKillable::kOff;
  ExpectLine("ok: signals: /usr/bin/crun", "is off");
  config_->wait_killable = policy::WaitKillable::kOn;
  ExpectLine("ok: signals: /usr/bin/crun", "by podman's hook as well");
  ExpectLine("error: signals: /usr/bin/runc", "no container starts");
  config_->wait_killable = policy::WaitKillable::kAuto;
  world_.kernel.keeps_wait_killable = false;
  ExpectLine("ok: signals: /usr/bin/crun", "Linux 6.18");
  world_.kernel.wait_killable = false;
  ExpectLine("ok: signals: /usr/bin/crun", "Linux 5.19");
}

TEST_F(DoctorTest, PodmanPassesOverAMissingHook) {
  Podman("/usr/share/oakum/hooks.d");
  ExpectAllOk();
  Remove("/usr/bin/oakum-hook");
  ExpectLine("error: podman: ", "run unguarded");
  Write("/usr/bin/oakum-hook", "not executable");
  ExpectLine("error: podman: ", "run unguarded");
  Remove("/usr/share/oakum/hooks.d");
  ExpectLine("warning: podman: ", "not guarded");
}

TEST_F(DoctorTest, HooksWhereCrioReadsThemAreAWarning) {
  Podman("/usr/share/containers/oci/hooks.d");
  ExpectLine("warning: podman: ", "CRI-O reads it too");
  Remove("/usr/share/containers/oci/hooks.d");
  Podman("/etc/containers/oci/hooks.d");
  ExpectLine("warning: podman: ", "CRI-O reads it too");
  ExpectLine("warning: podman: ", "does not read this directory");
  ExpectLine("warning: podman: ", "not guarded");
}

TEST_F(DoctorTest, DockerRuntimesHaveToExist) {
  Docker(R"({"runtimes": {"oakum": {"path": "/usr/bin/oakum-runtime"}}})");
  ExpectLine("warning: docker: ", "--runtime oakum");
  Docker(R"({"runtimes": {"gone": {"path": "/usr/bin/gone"}}})");
  ExpectLine("error: docker: ", "\"gone\" names /usr/bin/gone");
  ExpectLine("warning: docker: ", "not guarded");
  Docker("{");
  ExpectLine("error: docker: ", "daemon.json");
  Remove("/etc/docker/daemon.json");
  ExpectLine("warning: docker: ", "not guarded");
}

// An ordinary user has rootless podman, an agent and settings of their own; the machine's Docker is
// none of their business.
TEST_F(DoctorTest, AnOrdinaryUserIsToldOfRootlessPodman) {
  constexpr uid_t kUser = 4'000'000'000;  // nobody has it
  world_.user = {.uid = kUser, .home = "/home/u", .config_home = "", .runtime_dir = "/run/user/9"};
  config_->socket = "/run/user/9/oakum/agent.sock";
  agent_["socket"] = config_->socket;
  Program("/usr/bin/newuidmap", "");
  Program("/usr/bin/newgidmap", "");
  Write("/etc/subuid", "someone:100000:65536\n4000000000:165536:65536\n");
  Write("/etc/subgid", "4000000000:165536:65536");
  Write("/proc/sys/user/max_user_namespaces", "90000\n");
  Program("/usr/bin/podman", "");
  Docker("{}");
  ExpectLine("ok: user: ", "can run rootless podman");
  EXPECT_THAT(Lines(), Not(Contains(HasSubstr("docker"))));
  ExpectLine("warning: podman: ", "/home/u/.config/containers/containers.conf.d");
  Write("/home/u/.config/containers/containers.conf.d/oakum.conf",
        "[engine]\nhooks_dir = [\"/home/u/hooks.d\"]\n");
  Write("/home/u/hooks.d/oakum.json", R"({"hook": {"path": "/usr/bin/oakum-hook"}})");
  ExpectAllOk();

  Write("/etc/subgid", "someone:100000:65536\n4000000000:1:0\n");
  ExpectLine("error: user: ", "/etc/subgid has no ids for user 4000000000");
  Remove("/usr/bin/newuidmap");
  ExpectLine("error: user: ", "no newuidmap");
  Write("/proc/sys/user/max_user_namespaces", "0\n");
  ExpectLine("warning: user: ", "max_user_namespaces");
  agent_ = nullptr;
  ExpectLine("error: agent: ", "podman unshare oakum-agent");
}

TEST_F(DoctorTest, WritesJson) {
  agent_ = nullptr;
  const auto json = oci::Json::parse(RenderJson(Doctor(world_).Examine(config_)));
  const auto agent = std::ranges::find_if(
      json, [](const oci::Json& finding) { return finding["check"] == "agent"; });
  ASSERT_NE(agent, json.end());
  EXPECT_EQ((*agent)["severity"], "error");
  EXPECT_THAT((*agent)["advice"].get<std::string>(), HasSubstr("systemctl start"));
}

TEST(KernelFeatures, AreProbedWithoutHarm) {
  const KernelFeatures features = ProbeKernel();
  // A machine without any of it exists; one with pidfd_thread and without pidfd_getfd does not.
  EXPECT_TRUE(features.pidfd_getfd || !features.pidfd_thread);
  EXPECT_NE(features.listener_errno, EIO);
}

}  // namespace
}  // namespace oakum::cli
