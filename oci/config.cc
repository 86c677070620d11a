#include "oci/config.h"

#include <fmt/format.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "oci/json.h"
#include "oci/seccomp_section.h"

namespace oakum::oci {

namespace {

constexpr std::string_view kName = "config.json";

// The member, nullptr when it is absent or null.
template <typename Document>
Document* Find(Document& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

// Reads values by path and keeps the first error.
class FactReader {
 public:
  // The object at `key` of `parent`, an empty one when absent.
  const Json& Object(const Json& parent, const char* key) {
    const Json* value = Find(parent, key);
    if (value == nullptr) {
      return kEmpty;
    }
    if (!value->is_object()) {
      Fail(key, "an object");
      return kEmpty;
    }
    return *value;
  }

  std::string String(const Json& parent, const char* key) {
    const Json* value = Find(parent, key);
    if (value == nullptr) {
      return {};
    }
    if (!value->is_string()) {
      Fail(key, "a string");
      return {};
    }
    return value->get<std::string>();
  }

  std::vector<std::string> Strings(const Json& parent, const char* key) {
    std::vector<std::string> strings;
    for (const Json& item : List(parent, key)) {
      if (!item.is_string()) {
        Fail(key, "a list of strings");
        break;
      }
      strings.push_back(item.get<std::string>());
    }
    return strings;
  }

  std::map<std::string, std::string> StringMap(const Json& parent, const char* key) {
    std::map<std::string, std::string> strings;
    for (const auto& [name, value] : Object(parent, key).get_ref<const Json::object_t&>()) {
      if (!value.is_string()) {
        Fail(key, "an object of strings");
        break;
      }
      strings.emplace(name, value.get<std::string>());
    }
    return strings;
  }

  std::vector<ConfigMount> Mounts(const Json& parent, const char* key) {
    std::vector<ConfigMount> mounts;
    for (const Json& mount : List(parent, key)) {
      if (!mount.is_object()) {
        Fail(key, "a list of objects");
        break;
      }
      mounts.push_back(
          {String(mount, "destination"), String(mount, "type"), String(mount, "source")});
    }
    return mounts;
  }

  const std::string& error() const { return error_; }

 private:
  const Json& List(const Json& parent, const char* key) {
    const Json* value = Find(parent, key);
    if (value == nullptr) {
      return kEmptyList;
    }
    if (!value->is_array()) {
      Fail(key, "a list");
      return kEmptyList;
    }
    return *value;
  }

  void Fail(std::string_view key, std::string_view what) {
    if (error_.empty()) {
      error_ = fmt::format("{}: {} must be {}", kName, key, what);
    }
  }

  const Json kEmpty = Json::object();
  const Json kEmptyList = Json::array();
  std::string error_;
};

// Where things stand in a text that has been parsed already.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  struct Span {
    size_t begin;
    size_t end;
  };

  // The value of `key`, which needs no escapes, in the object whose '{' is at `open`.
  std::optional<Span> FindMember(size_t open, std::string_view key) const {
    size_t at = SkipSpace(open + 1);
    while (text_[at] != '}') {
      const size_t key_end = SkipValue(at);
      const bool found = IsString(text_.substr(at, key_end - at), key);
      const size_t begin = SkipSpace(SkipSpace(key_end) + 1);  // over the colon
      const size_t end = SkipValue(begin);
      if (found) {
        return Span{begin, end};
      }
      at = SkipSpace(end);
      if (text_[at] == ',') {
        at = SkipSpace(at + 1);
      }
    }
    return std::nullopt;
  }

  size_t SkipSpace(size_t at) const {
    const size_t next = text_.find_first_not_of(" \t\r\n", at);
    return next == std::string_view::npos ? text_.size() : next;
  }

 private:
  // Whether the string that is written as `quoted` is `value`.
  static bool IsString(std::string_view quoted, std::string_view value) {
    const std::string_view inside = quoted.substr(1, quoted.size() - 2);
    if (!inside.contains('\\')) {
      return inside == value;
    }
    const auto parsed = ParseJson(quoted, kName);
    return parsed && *parsed == value;
  }

  // The offset behind the value that begins at `at`.
  size_t SkipValue(size_t at) const {
    size_t depth = 0;
    while (at < text_.size()) {
      const char c = text_[at];
      if (c == '"') {
        at = SkipString(at);
      } else if (c == '{' || c == '[') {
        ++depth;
        ++at;
        continue;
      } else if (c == '}' || c == ']') {
        --depth;
        ++at;
      } else if (depth == 0) {
        return text_.find_first_of(",}] \t\r\n", at);  // a number or a literal
      } else {
        ++at;
        continue;
      }
      if (depth == 0) {
        return at;
      }
    }
    return at;
  }

  size_t SkipString(size_t at) const {
    ++at;
    while (text_[at] != '"') {
      at += text_[at] == '\\' ? 2 : 1;
    }
    return at + 1;
  }

  std::string_view text_;
};

// `text` with `member` put first into the object whose '{' is at `open`.
std::string InsertMember(std::string_view text, size_t open, std::string_view member) {
  const bool empty = text[Scanner(text).SkipSpace(open + 1)] == '}';
  return fmt::format("{}{}{}{}", text.substr(0, open + 1), member, empty ? "" : ",",
                     text.substr(open + 1));
}

std::string Replace(std::string_view text, Scanner::Span span, std::string_view value) {
  return fmt::format("{}{}{}", text.substr(0, span.begin), value, text.substr(span.end));
}

Expected<void> RefuseOtherPlatforms(const Json& config) {
  if (Find(config, "linux") != nullptr) {
    return {};
  }
  for (const char* platform : {"windows", "solaris", "vm", "zos", "freebsd"}) {
    if (Find(config, platform) != nullptr) {
      return MakeError(
          EINVAL, fmt::format("describes a {} container, which has no seccomp filter", platform));
    }
  }
  return {};
}

Expected<std::string> Dump(const Json& section) {
  try {
    return section.dump();
  } catch (const Json::exception&) {
    return MakeError(EINVAL, "a string of the listener's configuration is not UTF-8");
  }
}

// `linux`, nullptr when it is absent or null.
template <typename Document>
Expected<Document*> FindLinux(Document& config) {
  if (auto folded = RefuseFoldedKeys(config, {"linux"}); !folded) {
    return std::unexpected(folded.error());
  }
  if (auto refused = RefuseOtherPlatforms(config); !refused) {
    return std::unexpected(refused.error());
  }
  Document* linux_object = Find(config, "linux");
  if (linux_object == nullptr) {
    return nullptr;
  }
  if (!linux_object->is_object()) {
    return MakeError(EINVAL, "linux must be an object");
  }
  if (auto folded = RefuseFoldedKeys(*linux_object, {"seccomp"}); !folded) {
    return std::unexpected(std::move(folded.error()).Context("linux"));
  }
  return linux_object;
}

}  // namespace

Expected<ConfigDocument> ConfigDocument::Parse(std::string_view config_json) {
  auto json = ParseJson(config_json, kName);
  if (!json) {
    return std::unexpected(std::move(json.error()));
  }
  if (!json->is_object()) {
    return MakeError(EINVAL, fmt::format("{}:1:1: must be an object", kName));
  }
  return ConfigDocument(config_json, *std::move(json));
}

Expected<ConfigFacts> ConfigDocument::Facts() const {
  FactReader reader;
  ConfigFacts facts;
  facts.oci_version = reader.String(json_, "ociVersion");
  facts.hostname = reader.String(json_, "hostname");
  facts.root_path = reader.String(reader.Object(json_, "root"), "path");
  const Json& process = reader.Object(json_, "process");
  facts.args = reader.Strings(process, "args");
  facts.env = reader.Strings(process, "env");
  const Json& linux_object = reader.Object(json_, "linux");
  facts.cgroups_path = reader.String(linux_object, "cgroupsPath");
  facts.seccomp_listener_path =
      reader.String(reader.Object(linux_object, "seccomp"), "listenerPath");
  facts.mounts = reader.Mounts(json_, "mounts");
  facts.annotations = reader.StringMap(json_, "annotations");
  if (!reader.error().empty()) {
    return MakeError(EINVAL, reader.error());
  }
  return facts;
}

Expected<std::string_view> ConfigDocument::Seccomp() const {
  const auto linux_object = FindLinux(json_);
  if (!linux_object) {
    return std::unexpected(Error(linux_object.error()).Context(kName));
  }
  if (*linux_object == nullptr || Find(**linux_object, "seccomp") == nullptr) {
    return std::string_view();
  }
  const Scanner scanner(text_);
  const auto outer = scanner.FindMember(scanner.SkipSpace(0), "linux");
  const auto span = outer ? scanner.FindMember(outer->begin, "seccomp") : std::nullopt;
  if (!span) {
    return MakeError(EINVAL, fmt::format("{}: linux.seccomp is not where it was parsed", kName));
  }
  return text_.substr(span->begin, span->end - span->begin);
}

Expected<std::string> ConfigDocument::MergeSeccomp(const SeccompPlan& plan,
                                                   const ListenerConfig& listener) {
  auto linux_object = FindLinux(json_);
  if (!linux_object) {
    return std::unexpected(std::move(linux_object.error()).Context(kName));
  }
  Json section;
  if (*linux_object != nullptr) {
    if (Json* seccomp = Find(**linux_object, "seccomp")) {
      section = std::move(*seccomp);
    }
  }
  const auto merged = oci::MergeSeccomp(std::move(section), plan, listener);
  if (!merged) {
    return std::unexpected(Error(merged.error()).Context("linux").Context(kName));
  }
  auto text = Dump(*merged);
  if (!text) {
    return std::unexpected(std::move(text.error()).Context(kName));
  }
  return text;
}

std::string ConfigDocument::ReplaceSeccomp(std::string_view section) const {
  const std::string member = fmt::format("\"seccomp\":{}", section);
  const Scanner scanner(text_);
  const size_t open = scanner.SkipSpace(0);
  const auto linux_span = scanner.FindMember(open, "linux");
  if (!linux_span) {
    return InsertMember(text_, open, fmt::format("\"linux\":{{{}}}", member));
  }
  if (Find(json_, "linux") == nullptr) {
    return Replace(text_, *linux_span, fmt::format("{{{}}}", member));
  }
  const auto seccomp_span = scanner.FindMember(linux_span->begin, "seccomp");
  if (!seccomp_span) {
    return InsertMember(text_, linux_span->begin, member);
  }
  return Replace(text_, *seccomp_span, section);
}

}  // namespace oakum::oci
