// What the doctor looks at for rootless podman.
#include <fmt/format.h>
#include <pwd.h>

#include <array>
#include <cstdlib>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "cli/doctor.h"

namespace oakum::cli {

namespace {

constexpr size_t kMaxFile = size_t{1} << 20;

struct Setting {
  const char* path;
  const char* bad;  // its text where users have no user namespaces
  const char* advice;
};
constexpr std::array<Setting, 3> kSettings = {{
    {"/proc/sys/user/max_user_namespaces", "0", "set user.max_user_namespaces (sysctl)"},
    {"/proc/sys/kernel/unprivileged_userns_clone", "0",
     "set kernel.unprivileged_userns_clone to 1 (sysctl)"},
    {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
     "podman has a profile that allows them; for oakum run, which needs none, nothing is to be "
     "done"},
}};

std::string NameOf(uid_t uid) {
  std::vector<char> buffer(size_t{64} << 10);
  passwd entry = {};
  passwd* found = nullptr;
  return getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr
             ? found->pw_name
             : std::string();
}

// Whether a subuid(5) or subgid(5) has ids for the user: "NAME:FIRST:COUNT" or "UID:FIRST:COUNT".
bool HasIds(const std::string& text, uid_t uid, const std::string& name) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::string_view whose = std::string_view(line).substr(0, line.find(':'));
    const size_t count = line.rfind(':');
    if (count != std::string::npos && std::atoll(line.c_str() + count + 1) > 0 &&
        (whose == fmt::to_string(uid) || (!name.empty() && whose == name))) {
      return true;
    }
  }
  return false;
}

}  // namespace

std::string Doctor::UserContainers() const {
  const policy::User& user = world_.user;
  return (user.config_home.starts_with('/') ? user.config_home : user.home + "/.config") +
         "/containers";
}

void Doctor::CheckUser() {
  constexpr std::string_view kCheck = "user";
  const size_t before = findings_.size();
  for (const Setting& setting : kSettings) {
    const auto text = ReadFile(world_.root + setting.path, 64);
    if (text && text->substr(0, text->find('\n')) == setting.bad) {
      Warn(kCheck,
           fmt::format("{} is {}: users may not make user namespaces, which rootless podman needs",
                       setting.path, setting.bad),
           setting.advice);
    }
  }
  for (const std::string_view program : {"newuidmap", "newgidmap"}) {
    if (FindProgram(program).empty()) {
      Fail(kCheck, fmt::format("no {}: rootless podman has one user id only", program),
           "install it (package uidmap)");
    }
  }
  const uid_t uid = world_.user.uid;
  const std::string name = NameOf(uid);
  for (const std::string_view file : {"/etc/subuid", "/etc/subgid"}) {
    const auto text = ReadFile(world_.root + std::string(file), kMaxFile);
    if (!text || !HasIds(*text, uid, name)) {
      Fail(kCheck,
           fmt::format("{} has no ids for user {}: rootless podman has one only", file, uid),
           "usermod --add-subuids and --add-subgids, as root; then podman system migrate");
    }
  }
  if (findings_.size() == before) {
    Ok(kCheck, fmt::format("user {} can run rootless podman", uid));
  }
}

}  // namespace oakum::cli
