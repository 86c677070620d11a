// What the doctor looks at of podman and Docker.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "cli/doctor.h"

namespace oakum::cli {

namespace {

constexpr size_t kMaxFile = size_t{1} << 20;
constexpr std::string_view kHookName = "oakum-hook";
constexpr std::string_view kRuntimeName = "oakum-runtime";
constexpr char kDaemonJson[] = "/etc/docker/daemon.json";
// CRI-O reads both unless its configuration says otherwise (crio.conf(5), hooks_dir).
constexpr std::array<std::string_view, 2> kCrioHooks = {"/usr/share/containers/oci/hooks.d",
                                                        "/etc/containers/oci/hooks.d"};

std::string_view BaseName(std::string_view path) { return path.substr(path.rfind('/') + 1); }

std::string TextOf(const oci::Json& object, const char* key) {
  if (!object.is_object()) {
    return {};
  }
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// The strings of `hooks_dir = ["a", "b"]` in a containers.conf(5), TOML; false when it says
// nothing.
bool ReadHooksDir(const std::string& text, std::vector<std::string>& directories) {
  for (size_t start = 0; start < text.size();) {
    const size_t line_end = std::min(text.find('\n', start), text.size());
    const std::string_view line = std::string_view(text).substr(start, line_end - start);
    const size_t word = line.find_first_not_of(" \t");
    if (word != std::string_view::npos && line.substr(word).starts_with("hooks_dir")) {
      const size_t open = text.find('[', start);
      const size_t close = std::min(text.find(']', start), text.size());
      directories.clear();
      for (size_t quote = text.find('"', open); quote < close;) {
        const size_t end = text.find('"', quote + 1);
        if (end >= close) {
          break;
        }
        directories.push_back(text.substr(quote + 1, end - quote - 1));
        quote = text.find('"', end + 1);
      }
      return true;
    }
    start = line_end + 1;
  }
  return false;
}

}  // namespace

// Later files win (containers.conf(5)).
std::vector<std::string> Doctor::PodmanHookDirectories() const {
  std::vector<std::string> files = {"/usr/share/containers/containers.conf",
                                    "/etc/containers/containers.conf"};
  for (const std::string& name : List("/etc/containers/containers.conf.d", ".conf")) {
    files.push_back("/etc/containers/containers.conf.d/" + name);
  }
  if (is_rootless()) {
    const std::string own = UserContainers() + "/containers.conf";
    files.push_back(own);
    for (const std::string& name : List(own + ".d", ".conf")) {
      files.push_back(fmt::format("{}.d/{}", own, name));
    }
  }
  std::vector<std::string> directories = {"/usr/share/containers/oci/hooks.d"};
  for (const std::string& file : files) {
    if (const auto text = ReadFile(world_.root + file, kMaxFile); text) {
      (void)ReadHooksDir(*text, directories);
    }
  }
  return directories;
}

void Doctor::CheckPodman() {
  constexpr std::string_view kCheck = "podman";
  const std::vector<std::string> read = PodmanHookDirectories();
  std::vector<std::string> directories = read;
  for (const std::string_view directory : kCrioHooks) {
    if (std::ranges::find(directories, directory) == directories.end()) {
      directories.emplace_back(directory);
    }
  }
  bool guarded = false;
  for (const std::string& directory : directories) {
    for (const std::string& name : List(directory, ".json")) {
      const std::string file = fmt::format("{}/{}", directory, name);
      const auto text = ReadFile(world_.root + file, kMaxFile);
      const auto hook = text ? oci::ParseJson(*text, file) : Expected<oci::Json>(oci::Json());
      const std::string program =
          hook && hook->is_object() ? TextOf(hook->value("hook", oci::Json()), "path") : "";
      if (BaseName(program) != kHookName) {
        continue;
      }
      if (std::ranges::find(kCrioHooks, directory) != kCrioHooks.end()) {
        Warn(kCheck, fmt::format("{}: CRI-O reads it too, and refuses to start on it", file),
             "move it to a directory of its own, and name that in hooks_dir of containers.conf");
      }
      if (std::ranges::find(read, directory) == read.end()) {
        Warn(kCheck, fmt::format("{}: podman does not read this directory", file),
             "name the directory in hooks_dir of containers.conf");
        continue;
      }
      guarded = true;
      if (IsExecutable(program)) {
        Ok(kCheck, fmt::format("{} names {}", file, program));
      } else {
        Fail(kCheck,
             fmt::format("{} names {}, which is not there: podman passes over it, and containers "
                         "run unguarded",
                         file, Escape(program)),
             "install oakum-hook there, or remove the file");
      }
    }
  }
  if (!guarded && !FindProgram("podman").empty()) {
    Warn(kCheck,
         fmt::format("no hook of Oakum in {}: its containers are not guarded",
                     fmt::join(read, ", ")),
         fmt::format("link podman.conf into {}/containers.conf.d, see the example for podman",
                     is_rootless() ? UserContainers() : "/etc/containers"));
  }
}

void Doctor::CheckDocker() {
  constexpr std::string_view kCheck = "docker";
  const std::string program = FindProgram("dockerd");
  const auto text = ReadFile(world_.root + kDaemonJson, kMaxFile);
  if (!program.empty()) {
    CheckDockerVersion(program);
  }
  if (text) {
    if (const auto daemon = oci::ParseJson(*text, kDaemonJson); daemon && daemon->is_object()) {
      CheckDockerRuntimes(*daemon);
    } else {
      Fail(kCheck, daemon ? fmt::format("{}: no object", kDaemonJson) : daemon.error().what,
           "correct it; dockerd does not start with it");
    }
  } else if (text.error().code != ENOENT) {
    Warn(kCheck, text.error().ToString(), "run oakum doctor as root");
  } else if (!program.empty()) {
    CheckDockerRuntimes(oci::Json::object());
  }
}

void Doctor::CheckDockerRuntimes(const oci::Json& daemon) {
  constexpr std::string_view kCheck = "docker";
  const std::string default_runtime = TextOf(daemon, "default-runtime");
  const auto runtimes = daemon.find("runtimes");
  std::string ours;  // the name of a runtime that is oakum-runtime
  bool is_default = false;
  if (runtimes != daemon.end() && runtimes->is_object()) {
    for (const auto& [name, runtime] : runtimes->items()) {
      const std::string path = TextOf(runtime, "path");
      const bool is_ours = BaseName(path) == kRuntimeName;
      if (path.empty()) {
        continue;  // a shim, by runtimeType
      }
      if (!(path.starts_with('/') ? IsExecutable(path) : !FindProgram(path).empty())) {
        Fail(kCheck,
             fmt::format("{}: runtime \"{}\" names {}, which is not there", kDaemonJson,
                         Escape(name), Escape(path)),
             "install it, or remove the entry");
      } else if (is_ours) {
        Ok(kCheck, fmt::format("{}: runtime \"{}\" is {}", kDaemonJson, Escape(name), path));
      }
      if (is_ours) {
        ours = name;
        is_default = is_default || name == default_runtime;
      }
    }
  }
  if (ours.empty()) {
    Warn(kCheck,
         fmt::format("{}: no runtime is {}: its containers are not guarded", kDaemonJson,
                     kRuntimeName),
         "add one, see the example for Docker");
  } else if (!is_default) {
    Warn(kCheck, fmt::format("only containers started with --runtime {} are guarded", Escape(ours)),
         fmt::format("make it \"default-runtime\" in {} for all", kDaemonJson));
  }
}

void Doctor::CheckDockerVersion(const std::string& program) {
  constexpr std::string_view kCheck = "docker";
  constexpr int kFirstWithAnnotations = 24;  // docker run --annotation
  const auto output = world_.run({world_.root + program, "--version"});
  int major = 0;
  int minor = 0;
  if (!output || std::sscanf(output->c_str(), "Docker version %d.%d", &major, &minor) != 2) {
    Warn(kCheck, fmt::format("{} does not tell its version", program), "reinstall Docker");
  } else if (major < kFirstWithAnnotations) {
    Ok(kCheck,
       fmt::format("version {}.{}, which has no annotations: a policy can match name, image and "
                   "label; docker build is not guarded",
                   major, minor));
  } else {
    Ok(kCheck, fmt::format("version {}.{}; docker build is not guarded", major, minor));
  }
}

}  // namespace oakum::cli
