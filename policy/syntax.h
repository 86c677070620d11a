// A policy file as it is written: every key known, every value of the right JSON type, nothing
// resolved yet.
#ifndef OAKUM_POLICY_SYNTAX_H_
#define OAKUM_POLICY_SYNTAX_H_

#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "policy/jsonc.h"
#include "policy/source.h"

namespace oakum::policy::syntax {

inline constexpr size_t kMaxString = 4096;            // bytes of any string or key
inline constexpr size_t kMaxListEntries = 1'000'000;  // elements of one list of rules
inline constexpr size_t kMaxNamed = 10'000;  // policies, proxies, container rules of a file

// The keys of one kind of object, under the name that schema.json has for it in "$defs".
struct ObjectKeys {
  std::string_view name;
  std::span<const std::string_view> keys;
  std::span<const std::string_view> required;
};
// All of them: what a test compares with the schema.
[[nodiscard]] std::span<const ObjectKeys> AllObjectKeys();

struct Text {
  std::string_view value;
  Location at;
};

struct Proxy {
  Text name;
  std::vector<Text> urls;
  std::optional<Text> isolate;
  std::optional<Text> credentials;
  std::optional<Text> from;
  std::optional<Text> ca;
  std::optional<Text> server_name;
  std::optional<Text> timeout;  // a number as written
};

// "outgoing", "incoming" and "unix"; the latter two have no redirect.
struct Section {
  Location at;
  std::optional<Text> default_verdict;
  std::vector<Text> allow;
  std::vector<Text> deny;
  std::vector<Text> redirect;
};

struct Handshake {
  Location at;
  std::optional<Text> require;
  std::optional<Text> auth;
  std::optional<Text> isolation;
};

struct Syscalls {
  Location at;
  std::optional<Text> base;
  std::optional<Text> errno_value;  // a name, or a number as written
  std::vector<Text> allow;
  std::vector<Text> deny;
};

struct Policy {
  Text name;
  std::optional<Text> mode;
  std::optional<Text> proxy;
  std::optional<Section> outgoing;
  std::optional<Section> incoming;
  std::optional<Text> dns;
  std::optional<Text> resolve;
  std::optional<Location> resolvers_at;
  std::vector<Text> resolvers;
  std::optional<Section> unix_sockets;
  std::optional<Handshake> handshake;
  std::vector<Text> on_leak;
  std::optional<Syscalls> syscalls;
  std::optional<Text> log;
};

struct Match {
  std::vector<std::pair<Text, Text>> annotations;
  std::vector<std::pair<Text, Text>> labels;
  std::optional<Text> name;
  std::optional<Text> image;
  std::optional<Text> ns;
  std::optional<Text> pod;
  std::optional<Text> engine;
  std::optional<Text> id;
};

struct ContainerRule {
  Location at;
  Match match;
  Text policy;
};

struct File {
  std::vector<Proxy> proxies;
  std::vector<Policy> policies;
  std::vector<ContainerRule> containers;
};

// Reads a file from its parsed document, whose texts it refers to. What is wrong goes to
// `diagnostics`; what can be read is returned all the same.
[[nodiscard]] File Read(const jsonc::Value& root, Diagnostics& diagnostics);

}  // namespace oakum::policy::syntax

#endif  // OAKUM_POLICY_SYNTAX_H_
