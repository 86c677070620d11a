#include "policy/locations.h"

#include <fmt/format.h>
#include <pwd.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "base/file.h"
#include "base/uid_map.h"

namespace oakum::policy {

namespace {

constexpr size_t kMaxUidMap = size_t{64} << 10;  // 340 lines at most (user_namespaces(7))
constexpr size_t kMaxPasswdEntry = size_t{64} << 10;

std::string Variable(const char* name) {
  // NOLINTNEXTLINE(concurrency-mt-unsafe): nothing here sets variables beside other threads
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

bool IsAbsolute(const std::string& path) { return path.starts_with('/'); }

std::optional<std::string> HomeOf(uid_t uid) {
  std::vector<char> buffer(kMaxPasswdEntry);
  passwd entry = {};
  passwd* found = nullptr;
  if (getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) != 0 || found == nullptr) {
    return std::nullopt;
  }
  return found->pw_dir;
}

}  // namespace

std::optional<uid_t> OutsideUid(std::string_view uid_map, uid_t uid) {
  for (const UidRange& range : ParseUidMap(uid_map)) {
    if (uid >= range.inside && uid - range.inside < range.count) {
      return static_cast<uid_t>(range.outside + (uid - range.inside));
    }
  }
  return std::nullopt;
}

Locations LocationsOf(const User& user, const std::function<bool(const std::string&)>& exists) {
  Locations locations;
  if (user.uid == 0 || !IsAbsolute(user.home)) {
    return locations;
  }
  const std::string config =
      (IsAbsolute(user.config_home) ? user.config_home : user.home + "/.config") + "/oakum";
  const std::string runtime =
      IsAbsolute(user.runtime_dir) ? user.runtime_dir : fmt::format("/run/user/{}", user.uid);
  locations.config = config + "/config.json";
  locations.socket = runtime + "/oakum/agent.sock";
  if (exists(config + "/policy.d")) {
    locations.policy = config + "/policy.d";
  }
  return locations;
}

User OwnUser() {
  User user;
  const uid_t uid = geteuid();
  const auto map = ReadFile("/proc/self/uid_map", kMaxUidMap);
  const auto outside = map ? OutsideUid(*map, uid) : std::nullopt;
  user.uid = uid != 0 ? uid : outside.value_or(0);
  if (user.uid == 0) {
    return {};
  }
  const auto home = HomeOf(user.uid);
  if (uid == 0 && !home) {
    return {};
  }
  user.home = Variable("HOME");
  if (user.home.empty() && home) {
    user.home = *home;
  }
  user.config_home = Variable("XDG_CONFIG_HOME");
  user.runtime_dir = Variable("XDG_RUNTIME_DIR");
  return user;
}

Locations OwnLocations() {
  return LocationsOf(OwnUser(),
                     [](const std::string& path) { return access(path.c_str(), F_OK) == 0; });
}

}  // namespace oakum::policy
