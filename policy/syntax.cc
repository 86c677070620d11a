#include "policy/syntax.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "policy/suggest.h"

namespace oakum::policy::syntax {

namespace {

using Word = std::string_view;

constexpr std::array kFileKeys = {Word("version"), Word("proxies"), Word("policies"),
                                  Word("containers")};
constexpr std::array kFileRequired = {Word("version")};
constexpr std::array kProxyKeys = {Word("url"),    Word("isolate"), Word("credentials"),
                                   Word("from"),   Word("ca"),      Word("server_name"),
                                   Word("timeout")};
constexpr std::array kProxyRequired = {Word("url")};
constexpr std::array kPolicyKeys = {Word("mode"),      Word("proxy"),    Word("outgoing"),
                                    Word("incoming"),  Word("dns"),      Word("resolve"),
                                    Word("resolvers"), Word("unix"),     Word("handshake"),
                                    Word("on_leak"),   Word("syscalls"), Word("log")};
constexpr std::array kPolicyRequired = {Word("mode")};
constexpr std::array kOutgoingKeys = {Word("default"), Word("allow"), Word("deny"),
                                      Word("redirect")};
constexpr std::array kIncomingKeys = {Word("default"), Word("allow"), Word("deny")};
constexpr std::array kUnixKeys = {Word("default"), Word("allow"), Word("deny")};
constexpr std::array kHandshakeKeys = {Word("require"), Word("auth"), Word("isolation")};
constexpr std::array kHandshakeRequired = {Word("require")};
constexpr std::array kSyscallsKeys = {Word("base"), Word("allow"), Word("deny"), Word("errno")};
constexpr std::array kContainerKeys = {Word("match"), Word("policy")};
constexpr std::array kMatchKeys = {Word("annotation"), Word("label"), Word("name"),   Word("image"),
                                   Word("namespace"),  Word("pod"),   Word("engine"), Word("id")};
constexpr std::span<const Word> kNone;

constexpr ObjectKeys kFile = {"file", kFileKeys, kFileRequired};
constexpr ObjectKeys kProxy = {"proxy", kProxyKeys, kProxyRequired};
constexpr ObjectKeys kPolicy = {"policy", kPolicyKeys, kPolicyRequired};
constexpr ObjectKeys kOutgoing = {"outgoing", kOutgoingKeys, kNone};
constexpr ObjectKeys kIncoming = {"incoming", kIncomingKeys, kNone};
constexpr ObjectKeys kUnix = {"unix", kUnixKeys, kNone};
constexpr ObjectKeys kHandshake = {"handshake", kHandshakeKeys, kHandshakeRequired};
constexpr ObjectKeys kSyscalls = {"syscalls", kSyscallsKeys, kNone};
constexpr ObjectKeys kContainer = {"container", kContainerKeys, kContainerKeys};
constexpr ObjectKeys kMatch = {"match", kMatchKeys, kNone};

constexpr std::array kAll = {kFile, kProxy,     kPolicy,   kOutgoing,  kIncoming,
                             kUnix, kHandshake, kSyscalls, kContainer, kMatch};

class Reader {
 public:
  explicit Reader(Diagnostics& diagnostics) : diagnostics_(diagnostics) {}

  File ReadFile(const jsonc::Value& root) {
    File file;
    if (!IsObject(root, "a policy file")) {
      return file;
    }
    CheckKeys(root, kFile, "a policy file");
    if (const jsonc::Value* version = root.Find("version"); version != nullptr) {
      if (version->kind != jsonc::Kind::kNumber || version->text != "1") {
        diagnostics_.Add(version->at, "\"version\" must be 1: this program knows no other");
      }
    }
    ForEachNamed(root, "proxies", [&](const Text& name, const jsonc::Value& value) {
      file.proxies.push_back(ReadProxy(name, value));
    });
    ForEachNamed(root, "policies", [&](const Text& name, const jsonc::Value& value) {
      file.policies.push_back(ReadPolicy(name, value));
    });
    if (const jsonc::Value* rules = root.Find("containers");
        rules != nullptr && IsArray(*rules, "\"containers\"", kMaxNamed)) {
      for (const jsonc::Value& rule : rules->items) {
        file.containers.push_back(ReadContainerRule(rule));
      }
    }
    return file;
  }

 private:
  bool IsKind(const jsonc::Value& value, jsonc::Kind kind, std::string_view what) {
    if (value.kind != kind) {
      diagnostics_.Add(value.at, fmt::format("{} must be {}, not {}", what, jsonc::KindName(kind),
                                             jsonc::KindName(value.kind)));
      return false;
    }
    return true;
  }

  bool IsObject(const jsonc::Value& value, std::string_view what) {
    return IsKind(value, jsonc::Kind::kObject, what);
  }

  bool IsArray(const jsonc::Value& value, std::string_view what, size_t limit) {
    if (!IsKind(value, jsonc::Kind::kArray, what)) {
      return false;
    }
    if (value.items.size() > limit) {
      diagnostics_.Add(value.at, fmt::format("{} has {} elements; the most is {}", what,
                                             value.items.size(), limit));
      return false;
    }
    return true;
  }

  void CheckKeys(const jsonc::Value& object, const ObjectKeys& known, std::string_view what) {
    for (const jsonc::Member& member : object.members) {
      if (std::find(known.keys.begin(), known.keys.end(), member.key) == known.keys.end()) {
        diagnostics_.Add(member.key_at,
                         fmt::format("unknown key \"{}\" in {}{}", Escape(member.key), what,
                                     DidYouMean(member.key, known.keys)));
      }
    }
    for (const Word required : known.required) {
      if (object.Find(required) == nullptr) {
        diagnostics_.Add(object.at, fmt::format("{} needs the key \"{}\"", what, required));
      }
    }
  }

  std::optional<Text> ReadText(const jsonc::Value& value, std::string_view what) {
    if (!IsKind(value, jsonc::Kind::kString, what)) {
      return std::nullopt;
    }
    if (value.text.size() > kMaxString) {
      diagnostics_.Add(value.at, fmt::format("{} is longer than {} bytes", what, kMaxString));
      return std::nullopt;
    }
    return Text{.value = value.text, .at = value.at};
  }

  std::optional<Text> ReadMember(const jsonc::Value& object, std::string_view key) {
    const jsonc::Value* value = object.Find(key);
    return value == nullptr ? std::nullopt : ReadText(*value, fmt::format("\"{}\"", key));
  }

  std::vector<Text> ReadList(const jsonc::Value& object, std::string_view key) {
    std::vector<Text> list;
    const jsonc::Value* value = object.Find(key);
    if (value == nullptr) {
      return list;
    }
    const std::string quoted = fmt::format("\"{}\"", key);
    if (!IsArray(*value, quoted, kMaxListEntries)) {
      return list;
    }
    const std::string what = fmt::format("an element of {}", quoted);
    list.reserve(value->items.size());
    for (const jsonc::Value& item : value->items) {
      if (const auto text = ReadText(item, what); text.has_value()) {
        list.push_back(*text);
      }
    }
    return list;
  }

  // Calls `read` with the name and the value of each member of root[key], an object.
  template <typename Read>
  void ForEachNamed(const jsonc::Value& root, std::string_view key, Read read) {
    const jsonc::Value* value = root.Find(key);
    if (value == nullptr || !IsObject(*value, fmt::format("\"{}\"", key))) {
      return;
    }
    if (value->members.size() > kMaxNamed) {
      diagnostics_.Add(value->at, fmt::format("\"{}\" has {} members; the most is {}", key,
                                              value->members.size(), kMaxNamed));
      return;
    }
    for (const jsonc::Member& member : value->members) {
      read(Text{.value = member.key, .at = member.key_at}, member.value);
    }
  }

  Proxy ReadProxy(const Text& name, const jsonc::Value& value) {
    Proxy proxy;
    proxy.name = name;
    if (!IsObject(value, "a proxy")) {
      return proxy;
    }
    CheckKeys(value, kProxy, "a proxy");
    proxy.isolate = ReadMember(value, "isolate");
    proxy.credentials = ReadMember(value, "credentials");
    proxy.from = ReadMember(value, "from");
    proxy.ca = ReadMember(value, "ca");
    proxy.server_name = ReadMember(value, "server_name");
    if (const jsonc::Value* timeout = value.Find("timeout");
        timeout != nullptr && IsKind(*timeout, jsonc::Kind::kNumber, "\"timeout\"")) {
      proxy.timeout = Text{.value = timeout->text, .at = timeout->at};
    }
    const jsonc::Value* url = value.Find("url");
    if (url == nullptr) {
      return proxy;
    }
    if (url->kind == jsonc::Kind::kArray) {
      proxy.urls = ReadList(value, "url");
      if (url->items.empty()) {
        diagnostics_.Add(url->at, "\"url\" is empty");
      }
    } else if (url->kind == jsonc::Kind::kString) {
      if (const auto text = ReadText(*url, "\"url\""); text.has_value()) {
        proxy.urls.push_back(*text);
      }
    } else {
      diagnostics_.Add(url->at, "\"url\" must be a string, or an array of strings for failover");
    }
    return proxy;
  }

  std::optional<Section> ReadSection(const jsonc::Value& policy, std::string_view key,
                                     const ObjectKeys& known) {
    const jsonc::Value* value = policy.Find(key);
    const std::string what = fmt::format("\"{}\"", key);
    if (value == nullptr || !IsObject(*value, what)) {
      return std::nullopt;
    }
    CheckKeys(*value, known, what);
    Section section{.at = value->at,
                    .default_verdict = ReadMember(*value, "default"),
                    .allow = ReadList(*value, "allow"),
                    .deny = ReadList(*value, "deny"),
                    .redirect = {}};
    if (std::find(known.keys.begin(), known.keys.end(), "redirect") != known.keys.end()) {
      section.redirect = ReadList(*value, "redirect");
    }
    return section;
  }

  std::optional<Handshake> ReadHandshake(const jsonc::Value& policy) {
    const jsonc::Value* value = policy.Find("handshake");
    if (value == nullptr || !IsObject(*value, "\"handshake\"")) {
      return std::nullopt;
    }
    CheckKeys(*value, kHandshake, "\"handshake\"");
    return Handshake{.at = value->at,
                     .require = ReadMember(*value, "require"),
                     .auth = ReadMember(*value, "auth"),
                     .isolation = ReadMember(*value, "isolation")};
  }

  std::optional<Syscalls> ReadSyscalls(const jsonc::Value& policy) {
    const jsonc::Value* value = policy.Find("syscalls");
    if (value == nullptr || !IsObject(*value, "\"syscalls\"")) {
      return std::nullopt;
    }
    CheckKeys(*value, kSyscalls, "\"syscalls\"");
    return Syscalls{.at = value->at,
                    .base = ReadMember(*value, "base"),
                    .errno_value = ReadErrno(*value),
                    .allow = ReadList(*value, "allow"),
                    .deny = ReadList(*value, "deny")};
  }

  std::optional<Text> ReadErrno(const jsonc::Value& syscalls) {
    const jsonc::Value* value = syscalls.Find("errno");
    if (value != nullptr && value->kind == jsonc::Kind::kNumber) {
      return Text{.value = value->text, .at = value->at};
    }
    return ReadMember(syscalls, "errno");
  }

  Policy ReadPolicy(const Text& name, const jsonc::Value& value) {
    Policy policy;
    policy.name = name;
    if (!IsObject(value, "a policy")) {
      return policy;
    }
    CheckKeys(value, kPolicy, "a policy");
    policy.mode = ReadMember(value, "mode");
    policy.proxy = ReadMember(value, "proxy");
    policy.outgoing = ReadSection(value, "outgoing", kOutgoing);
    policy.incoming = ReadSection(value, "incoming", kIncoming);
    policy.dns = ReadMember(value, "dns");
    policy.resolve = ReadMember(value, "resolve");
    if (const jsonc::Value* resolvers = value.Find("resolvers"); resolvers != nullptr) {
      policy.resolvers_at = resolvers->at;
    }
    policy.resolvers = ReadList(value, "resolvers");
    policy.unix_sockets = ReadSection(value, "unix", kUnix);
    policy.handshake = ReadHandshake(value);
    policy.on_leak = ReadList(value, "on_leak");
    policy.syscalls = ReadSyscalls(value);
    policy.log = ReadMember(value, "log");
    return policy;
  }

  std::vector<std::pair<Text, Text>> ReadPatterns(const jsonc::Value& match, std::string_view key) {
    std::vector<std::pair<Text, Text>> patterns;
    ForEachNamed(match, key, [&](const Text& name, const jsonc::Value& value) {
      if (name.value.size() > kMaxString) {
        diagnostics_.Add(name.at, fmt::format("a key longer than {} bytes", kMaxString));
      }
      if (const auto text = ReadText(value, fmt::format("\"{}\"", Escape(name.value)));
          text.has_value()) {
        patterns.emplace_back(name, *text);
      }
    });
    return patterns;
  }

  ContainerRule ReadContainerRule(const jsonc::Value& value) {
    ContainerRule rule;
    rule.at = value.at;
    if (!IsObject(value, "a container rule")) {
      return rule;
    }
    CheckKeys(value, kContainer, "a container rule");
    rule.policy = ReadMember(value, "policy").value_or(Text{.value = {}, .at = value.at});
    const jsonc::Value* match = value.Find("match");
    if (match == nullptr || !IsObject(*match, "\"match\"")) {
      return rule;
    }
    CheckKeys(*match, kMatch, "\"match\"");
    rule.match = {.annotations = ReadPatterns(*match, "annotation"),
                  .labels = ReadPatterns(*match, "label"),
                  .name = ReadMember(*match, "name"),
                  .image = ReadMember(*match, "image"),
                  .ns = ReadMember(*match, "namespace"),
                  .pod = ReadMember(*match, "pod"),
                  .engine = ReadMember(*match, "engine"),
                  .id = ReadMember(*match, "id")};
    return rule;
  }

  Diagnostics& diagnostics_;
};

}  // namespace

std::span<const ObjectKeys> AllObjectKeys() { return kAll; }

File Read(const jsonc::Value& root, Diagnostics& diagnostics) {
  return Reader(diagnostics).ReadFile(root);
}

}  // namespace oakum::policy::syntax
