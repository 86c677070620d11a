#include "cli/doctor.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "agent/control.h"
#include "oci/wait_killable.h"
#include "policy/policy_set.h"

namespace oakum::cli {

namespace {

// Where oakum-runtime looks as well (docs/engines.md).
constexpr std::array<std::string_view, 6> kProgramDirectories = {
    "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};

struct Version {
  int major = 0;
  int minor = 0;
};

bool IsAtLeast(Version have, Version want) {
  return std::pair(have.major, have.minor) >= std::pair(want.major, want.minor);
}

// "runc version 1.1.5+ds1"
bool ParseVersion(const std::string& text, std::string_view name, Version& version) {
  const std::string start = fmt::format("{} version ", name);
  return text.starts_with(start) &&
         std::sscanf(text.c_str() + start.size(), "%d.%d", &version.major, &version.minor) == 2;
}

std::string_view Word(Severity severity) {
  switch (severity) {
    case Severity::kFine:
      return "ok";
    case Severity::kWarning:
      return "warning";
    case Severity::kError:
      return "error";
  }
  return "error";
}

std::string TextOf(const oci::Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

}  // namespace

std::vector<Finding> Doctor::Examine(const Expected<policy::Config>& config) {
  findings_.clear();
  CheckKernel();
  if (config) {
    Ok("config", "no mistake in it");
  } else {
    Fail("config", config.error().ToString(), "correct it; no container starts until then");
  }
  const policy::Config used = config.value_or(policy::Config());
  CheckPolicy(used);
  CheckAgent(used);
  CheckRuntimes(used);
  if (is_rootless()) {
    CheckUser();
  }
  CheckPodman();
  if (!is_rootless()) {
    CheckDocker();
  }
  return std::exchange(findings_, {});
}

void Doctor::CheckKernel() {
  const KernelFeatures& kernel = world_.kernel;
  constexpr std::string_view kCheck = "kernel";
  const auto feature = [&](bool has, bool needed, const char* name, const char* consequence,
                           const char* advice) {
    if (has) {
      Ok(kCheck, name);
    } else if (needed) {
      Fail(kCheck, fmt::format("no {}: {}", name, consequence), advice);
    } else {
      Warn(kCheck, fmt::format("no {}: {}", name, consequence), advice);
    }
  };
  if (kernel.listener_errno == EBUSY) {
    Warn(kCheck, "seccomp user notification cannot be tried: this process is guarded itself",
         "run oakum doctor outside of oakum run and containers");
  } else {
    feature(kernel.listener_errno == 0, true, "seccomp user notification",
            fmt::format("nothing can be guarded ({})", strerror(kernel.listener_errno)).c_str(),
            "use a kernel with CONFIG_SECCOMP_FILTER, Linux 5.14 or later");
    feature(kernel.addfd_send, true, "SECCOMP_ADDFD_FLAG_SEND",
            "accepted connections cannot be handed over", "use Linux 5.14 or later");
    feature(kernel.sync_wake_up, false, "SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP",
            "each guarded call takes some ten microseconds longer", "use Linux 6.6 or later");
  }
  feature(kernel.pidfd_getfd, true, "pidfd_getfd", "the agent cannot take a container's sockets",
          "use Linux 5.6 or later");
  feature(kernel.pidfd_thread, false, "PIDFD_THREAD",
          "threads with a descriptor table of their own cannot connect",
          "use Linux 6.9 or later if a program needs that");
  feature(kernel.io_uring, false, "io_uring", "the agent performs blocking calls in threads",
          "set kernel.io_uring_disabled to 0 (sysctl) if many calls wait at a time");
}

void Doctor::CheckPolicy(const policy::Config& config) {
  const auto set =
      policy::PolicySet::Load(world_.root + config.policy, policy::PolicyUse::kEnforce);
  if (!set) {
    Fail("policy", set.error().ToString(), "correct it; oakum policy check says when it is right");
  } else if ((*set)->container_rules() == 0) {
    Warn("policy", fmt::format("{}: no container rule: every container is refused", config.policy),
         R"(add {"match": {}, "policy": "NAME"} to "containers")");
  } else {
    Ok("policy", fmt::format("{}: {} policies, {} container rules", config.policy,
                             (*set)->names().size(), (*set)->container_rules()));
  }
}

void Doctor::CheckAgent(const policy::Config& config) {
  constexpr std::string_view kCheck = "agent";
  const std::string control =
      config.control.empty() ? agent::DefaultControlPath(config.socket) : config.control;
  const auto status = world_.ask_agent(world_.root + control);
  if (!status) {
    const bool forbidden = status.error().code == EACCES || status.error().code == EPERM;
    Fail(kCheck, status.error().ToString(),
         forbidden ? "run oakum doctor as the agent's user"
         : is_rootless()
             ? "start it (podman unshare oakum-agent); until then no container starts"
             : "start it (systemctl start oakum-agent); until then no container starts");
    return;
  }
  if (const std::string socket = TextOf(*status, "socket"); socket != config.socket) {
    Fail(kCheck,
         fmt::format("it listens at {}, but the configuration says {}", Escape(socket),
                     Escape(config.socket)),
         "restart it, or correct \"socket\"");
    return;
  }
  const oci::Json policy = status->value("policy", oci::Json::object());
  if (const std::string error = TextOf(policy, "error"); !error.empty()) {
    Fail(kCheck, fmt::format("it goes on with an older policy: {}", Escape(error, 1024)),
         is_rootless() ? "correct the policy and reload (SIGHUP)"
                       : "correct the policy and reload (systemctl reload oakum-agent)");
  } else if (const std::string path = TextOf(policy, "path"); path != config.policy) {
    Warn(kCheck,
         fmt::format("its policy is {}, but the configuration says {}", Escape(path),
                     Escape(config.policy)),
         "containers are denied everything where the two differ: give both the same");
  } else {
    Ok(kCheck,
       fmt::format("answers at {}, version {}", control, Escape(TextOf(*status, "version"))));
  }
}

void Doctor::CheckRuntimes(const policy::Config& config) {
  if (!config.runtime.empty()) {
    const bool absolute = config.runtime.starts_with('/');
    const std::string path = absolute ? config.runtime : FindProgram(config.runtime);
    if (path.empty() || !IsExecutable(path)) {
      Fail("runtime", fmt::format("\"{}\" of the configuration is not there", config.runtime),
           "install it, or correct \"runtime\"");
    } else {
      CheckRuntime(config, path);
    }
    return;
  }
  bool found = false;
  for (const std::string_view name : {"runc", "crun"}) {
    if (const std::string path = FindProgram(name); !path.empty()) {
      found = true;
      CheckRuntime(config, path);
    }
  }
  if (!found) {
    Fail("runtime", "neither runc nor crun is there", "install runc 1.1 or crun 0.19, or later");
  }
}

// runc reads linux.seccomp.listenerPath since 1.1.0, crun since 0.19 (their change logs).
void Doctor::CheckRuntime(const policy::Config& config, const std::string& path) {
  constexpr std::string_view kCheck = "runtime";
  const auto output = world_.run({world_.root + path, "--version"});
  if (!output) {
    Fail(kCheck, fmt::format("{} --version: {}", path, output.error().ToString()),
         "reinstall it, or name another one as \"runtime\"");
    return;
  }
  const std::string first = output->substr(0, output->find('\n'));
  Version version;
  const bool is_runc = ParseVersion(first, "runc", version);
  if (!is_runc && !ParseVersion(first, "crun", version)) {
    Warn(kCheck, fmt::format("{}: \"{}\" is neither runc nor crun", path, Escape(first)),
         "make sure that it knows linux.seccomp.listenerPath");
    return;
  }
  if (!IsAtLeast(version, is_runc ? Version{1, 1} : Version{0, 19})) {
    Fail(kCheck, fmt::format("{}: {} ignores listenerPath", path, Escape(first)),
         "install runc 1.1 or crun 0.19, or later");
  } else if (!output->contains(is_runc ? "libseccomp:" : "+SECCOMP")) {
    Fail(kCheck, fmt::format("{}: built without seccomp", path), "install another build of it");
  } else {
    Ok(kCheck, fmt::format("{}: {} takes listenerPath", path, Escape(first)));
    CheckWaitKillable(config, path, *output);
  }
}

void Doctor::CheckWaitKillable(const policy::Config& config, const std::string& path,
                               const std::string& version) {
  constexpr std::string_view kCheck = "signals";
  const auto features = [&] {
    const auto output = world_.run({world_.root + path, "features"});
    return output && oci::WaitKillableByFeatures(*output);
  };
  const oci::RuntimeAnswer answer = oci::WaitKillableByVersion(version);
  const bool takes = answer == oci::RuntimeAnswer::kYes ||
                     (answer == oci::RuntimeAnswer::kAskFeatures && features());
  const KernelFeatures& kernel = world_.kernel;
  const std::string_view why = !kernel.wait_killable ? "the kernel does not know it (Linux 5.19)"
                               : !takes              ? "the runtime does not take it"
                               : !kernel.keeps_wait_killable
                                   ? "this kernel can throw answers away all the same (Linux 6.18)"
                                   : "";
  switch (config.wait_killable) {
    case policy::WaitKillable::kOff:
      Ok(kCheck, fmt::format("{}: WAIT_KILLABLE_RECV is not used: \"wait_killable\" is off", path));
      return;
    case policy::WaitKillable::kOn:
      if (!kernel.wait_killable || !takes) {
        Fail(kCheck,
             fmt::format("{}: \"wait_killable\" is on, but {}: no container starts", path, why),
             "set it to auto");
      } else {
        Ok(kCheck, fmt::format("{}: WAIT_KILLABLE_RECV is used, by podman's hook as well", path));
      }
      return;
    case policy::WaitKillable::kAuto:
      break;
  }
  Ok(kCheck, why.empty()
                 ? fmt::format("{}: WAIT_KILLABLE_RECV is used (not by podman's hook, which "
                               "does not know the runtime)",
                               path)
                 : fmt::format("{}: WAIT_KILLABLE_RECV is not used: {}", path, why));
}

void Doctor::Ok(std::string_view check, std::string what) {
  findings_.push_back({Severity::kFine, std::string(check), std::move(what), {}});
}

void Doctor::Warn(std::string_view check, std::string what, std::string advice) {
  findings_.push_back({Severity::kWarning, std::string(check), std::move(what), std::move(advice)});
}

void Doctor::Fail(std::string_view check, std::string what, std::string advice) {
  findings_.push_back({Severity::kError, std::string(check), std::move(what), std::move(advice)});
}

bool Doctor::IsExecutable(const std::string& path) const {
  const std::string full = world_.root + path;
  struct stat status = {};
  return stat(full.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         access(full.c_str(), X_OK) == 0;
}

std::string Doctor::FindProgram(std::string_view name) const {
  for (const std::string_view directory : kProgramDirectories) {
    std::string path = fmt::format("{}/{}", directory, name);
    if (IsExecutable(path)) {
      return path;
    }
  }
  return {};
}

std::vector<std::string> Doctor::List(const std::string& directory, std::string_view suffix) const {
  std::vector<std::string> names;
  std::error_code error;
  for (std::filesystem::directory_iterator entry(world_.root + directory, error), end;
       !error && entry != end; entry.increment(error)) {
    if (std::string name = entry->path().filename().string(); name.ends_with(suffix)) {
      names.push_back(std::move(name));
    }
  }
  std::ranges::sort(names);
  return names;
}

std::string RenderText(const std::vector<Finding>& findings) {
  std::string out;
  for (const Finding& finding : findings) {
    std::string what = finding.what;
    std::ranges::replace(what, '\n', ' ');
    out += fmt::format("{}: {}: {}{}{}\n", Word(finding.severity), finding.check, what,
                       finding.advice.empty() ? "" : "; ", finding.advice);
  }
  return out;
}

std::string RenderJson(const std::vector<Finding>& findings) {
  oci::Json list = oci::Json::array();
  for (const Finding& finding : findings) {
    oci::Json json;
    json["severity"] = Word(finding.severity);
    json["check"] = finding.check;
    json["what"] = finding.what;
    json["advice"] = finding.advice;
    list.push_back(std::move(json));
  }
  return list.dump(2, ' ', false, oci::Json::error_handler_t::replace) + "\n";
}

}  // namespace oakum::cli
