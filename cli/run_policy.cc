#include "cli/run_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "oci/json.h"
#include "policy/proxy_url.h"
#include "policy/rule_text.h"
#include "policy/suggest.h"

namespace oakum::cli {

namespace {

using policy::PolicySet;

constexpr char kInlineName[] = "command-line";  // the policy and the proxy that options make
constexpr size_t kMaxUrlFile = 4096;
constexpr std::string_view kProxyOption = "--proxy";

// Services of the host that resolve names, or connect, for whoever asks them through a socket: nscd
// and systemd-resolved for the C library, which resolved also does over D-Bus; avahi; container
// engines, whose containers are none of ours.
constexpr std::array<std::string_view, 10> kOutsideServices = {"/run/nscd/socket",
                                                               "/var/run/nscd/socket",
                                                               "/run/systemd/resolve/**",
                                                               "/run/avahi-daemon/socket",
                                                               "/run/dbus/system_bus_socket",
                                                               "/var/run/dbus/system_bus_socket",
                                                               "/run/docker.sock",
                                                               "/var/run/docker.sock",
                                                               "/run/podman/podman.sock",
                                                               "/run/containerd/containerd.sock"};

Expected<std::string> ReadUrl(const std::string& option) {
  if (!option.starts_with('@')) {
    return option;
  }
  auto text = ReadFile(option.substr(1), kMaxUrlFile);
  if (!text) {
    return std::unexpected(std::move(text.error()).Context("--proxy"));
  }
  return text->substr(0, text->find_first_of("\r\n"));
}

// What --allow and --deny say; the text of the error names the option.
Expected<void> CheckRules(const RunPolicyOptions& options) {
  for (const auto& [option, rules] :
       {std::pair("--allow", &options.allow), std::pair("--deny", &options.deny)}) {
    for (const std::string& rule : *rules) {
      if (const auto parsed = policy::ParseRule(rule, policy::RuleKind::kOutgoing); !parsed) {
        return MakeError(EINVAL,
                         fmt::format("{} \"{}\": {}", option, Escape(rule), parsed.error().what));
      }
    }
  }
  return {};
}

// Everything through the proxy, names included; the program's own machine is not the network.
Expected<void> AddProxy(const RunPolicyOptions& options, oci::Json& document, oci::Json& members) {
  auto url = ReadUrl(*options.proxy);
  if (!url) {
    return std::unexpected(std::move(url.error()));
  }
  if (const auto parsed = policy::ParseProxyUrl(*url); !parsed) {
    return MakeError(EINVAL, fmt::format("--proxy: {}", parsed.error()));
  }
  oci::Json proxy;
  proxy["url"] = *url;
  if (options.isolate) {
    proxy["isolate"] = *options.isolate;
  }
  document["proxies"][kInlineName] = std::move(proxy);
  members["proxy"] = kInlineName;
  members["dns"] = "proxy";
  if (options.resolve) {
    members["resolve"] = *options.resolve;
  }
  members["outgoing"]["default"] = "redirect";
  for (const char* loopback : {"127.0.0.0/8", "[::1]"}) {
    members["outgoing"]["allow"].push_back(loopback);
  }
  members["unix"]["deny"] = kOutsideServices;
  return {};
}

Expected<std::shared_ptr<const PolicySet>> InlinePolicies(const RunPolicyOptions& options) {
  if (auto checked = CheckRules(options); !checked) {
    return std::unexpected(std::move(checked.error()));
  }
  oci::Json document;
  document["version"] = 1;
  oci::Json members;
  members["mode"] = options.mode.value_or("enforce");
  members["outgoing"]["default"] = "deny";
  members["outgoing"]["allow"] = options.allow;
  members["outgoing"]["deny"] = options.deny;
  if (options.proxy) {
    if (auto added = AddProxy(options, document, members); !added) {
      return std::unexpected(std::move(added.error()));
    }
  }
  document["policies"][kInlineName] = std::move(members);
  return PolicySet::Parse(document.dump(), kInlineName);
}

// Overwrites the URL in place by itself without user and password.
void HideCredentials(char* url) {
  const size_t length = std::strlen(url);
  const std::string_view text(url, length);
  const size_t at = text.rfind('@');
  if (at == 0 || at == std::string_view::npos) {
    return;  // "@FILE", or nothing to hide
  }
  const size_t scheme = text.find("://");
  const size_t start = scheme == std::string_view::npos || scheme > at ? 0 : scheme + 3;
  std::memmove(url + start, url + at + 1, length - at - 1);
  std::memset(url + start + length - at - 1, 0, at + 1 - start);
}

}  // namespace

std::string Conflict(const RunPolicyOptions& options) {
  if (options.policy && options.proxy) {
    return "--policy and --proxy: the file names its proxies";
  }
  if (options.policy && (options.mode || !options.allow.empty() || !options.deny.empty())) {
    return "--policy and --mode, --allow or --deny: the file says all of it";
  }
  if ((options.isolate || options.resolve) && !options.proxy) {
    return "--isolate and --resolve say how --proxy is used";
  }
  if (options.name && !options.policy) {
    return "--name names a policy of a file: say which with --policy";
  }
  if (!options.policy && !options.proxy && !options.mode) {
    return "what may the program do? Say --policy FILE, or --proxy URL to carry everything through "
           "a proxy, or --mode audit, enforce or kill with --allow RULE for what is no leak";
  }
  return {};
}

Expected<std::shared_ptr<const PolicySet>> LoadPolicies(const RunPolicyOptions& options) {
  return options.policy ? PolicySet::Load(*options.policy) : InlinePolicies(options);
}

Expected<const policy::Policy*> ChoosePolicy(const PolicySet& set,
                                             const RunPolicyOptions& options) {
  const std::vector<std::string> names = set.names();
  const std::vector<std::string_view> known(names.begin(), names.end());
  if (!options.name && names.size() != 1) {
    return MakeError(EINVAL, fmt::format("{} has {} policies: say which with --name ({})",
                                         Escape(*options.policy), names.size(),
                                         fmt::join(known.begin(), known.end(), ", ")));
  }
  const std::string& name = options.name ? *options.name : names.front();
  const policy::Policy* found = set.Find(name);
  if (found == nullptr) {
    return MakeError(ENOENT, fmt::format("there is no policy \"{}\"{}", Escape(name),
                                         policy::DidYouMean(name, known)));
  }
  return found;
}

std::vector<std::string> TakeArguments(int argc, char** argv) {
  std::vector<std::string> arguments(argv, argv + argc);
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == kProxyOption && i + 1 < argc) {
      HideCredentials(argv[++i]);
    } else if (word.starts_with(kProxyOption) && word.size() > kProxyOption.size() &&
               word[kProxyOption.size()] == '=') {
      HideCredentials(argv[i] + kProxyOption.size() + 1);
    }
  }
  return arguments;
}

std::optional<std::string> TakeProxyVariable() {
  char* const value = std::getenv(kProxyVariable);
  if (value == nullptr) {
    return std::nullopt;
  }
  std::string taken = value;
  // Also out of what /proc/PID/environ shows.
  explicit_bzero(value, taken.size());
  unsetenv(kProxyVariable);
  return taken.empty() ? std::nullopt : std::optional(std::move(taken));
}

}  // namespace oakum::cli
