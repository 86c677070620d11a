#include "oci/config.h"

#include <fmt/format.h>

#include <algorithm>
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

// Where things stand in a text. Of one that is no JSON it says something or nothing, and never
// looks beyond its end; of one that is, what is so. What it says of a place depends on what stands
// before.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  // Where the value of `key`, which needs no escapes, begins in the object whose '{' is at `open`:
  // of the first member of that name.
  std::optional<size_t> FindValue(size_t open, std::string_view key) const {
    if (At(open) != '{') {
      return std::nullopt;
    }
    size_t at = SkipSpace(open + 1);
    while (At(at) == '"') {
      const size_t key_end = SkipString(at);
      const size_t colon = SkipSpace(key_end);
      if (At(colon) != ':') {
        return std::nullopt;
      }
      const size_t begin = SkipSpace(colon + 1);
      if (IsString(text_.substr(at, key_end - at), key)) {
        return begin;
      }
      const size_t end = SkipValue(begin);
      if (end <= begin) {
        return std::nullopt;
      }
      at = SkipSpace(end);
      if (At(at) != ',') {
        return std::nullopt;
      }
      at = SkipSpace(at + 1);
    }
    return std::nullopt;
  }

  // The whole of that value.
  std::optional<TextSpan> FindMember(size_t open, std::string_view key) const {
    const auto begin = FindValue(open, key);
    const size_t end = begin ? SkipValue(*begin) : 0;
    return begin && end > *begin ? std::optional<TextSpan>({*begin, end}) : std::nullopt;
  }

  size_t SkipSpace(size_t at) const {
    while (At(at) == ' ' || At(at) == '\n' || At(at) == '\t' || At(at) == '\r') {
      ++at;
    }
    return at;
  }

  // NUL, which no JSON has, beyond the end.
  char At(size_t at) const { return at < text_.size() ? text_[at] : '\0'; }

 private:
  // Whether the string that is written as `quoted` is `value`.
  static bool IsString(std::string_view quoted, std::string_view value) {
    if (!quoted.contains('\\')) {
      return quoted.size() == value.size() + 2 && quoted.substr(1, value.size()) == value;
    }
    const auto parsed = ParseJson(quoted, kName);
    return parsed && *parsed == value;
  }

  // The offset behind the value that begins at `at`, which is `at` where there is none.
  size_t SkipValue(size_t at) const {
    size_t depth = 0;
    while (at < text_.size()) {
      switch (text_[at]) {
        case '"':
          at = SkipString(at);
          break;
        case '{':
        case '[':
          ++depth;
          ++at;
          continue;
        case '}':
        case ']':
          if (depth == 0) {
            return at;
          }
          --depth;
          ++at;
          break;
        default:
          if (depth == 0) {  // a number or a literal
            return std::min(text_.find_first_of(",}] \t\r\n", at), text_.size());
          }
          ++at;
          continue;
      }
      if (depth == 0) {
        return at;
      }
    }
    return text_.size();
  }

  size_t SkipString(size_t at) const {
    const char* const begin = text_.data();
    const char* const end = begin + text_.size();
    for (const char* next = begin + at + 1; next < end; ++next) {
      if (*next == '"') {
        return static_cast<size_t>(next + 1 - begin);
      }
      if (*next == '\\' && ++next == end) {
        break;
      }
    }
    return text_.size();
  }

  std::string_view text_;
};

// Where `linux.seccomp` is in a config.json.
std::optional<TextSpan> FindSection(std::string_view text) {
  const Scanner scanner(text);
  const auto outer = scanner.FindValue(scanner.SkipSpace(0), "linux");
  return outer ? scanner.FindMember(*outer, "seccomp") : std::nullopt;
}

constexpr std::string_view kEmptyObject = "{}";

// `text` with `member` put first into the object whose '{' is at `open`.
std::string InsertMember(std::string_view text, size_t open, std::string_view member) {
  const bool empty = text[Scanner(text).SkipSpace(open + 1)] == '}';
  return fmt::format("{}{}{}{}", text.substr(0, open + 1), member, empty ? "" : ",",
                     text.substr(open + 1));
}

std::string Replace(std::string_view text, TextSpan span, std::string_view value) {
  std::string replaced;
  replaced.reserve(text.size() + value.size());
  replaced.append(text.substr(0, span.begin)).append(value).append(text.substr(span.end));
  return replaced;
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
  // Where the text is JSON with {} in the place that the scanner found, the scanner was right: it
  // has read nothing beyond that place to find it, and of JSON it says what is so. With another
  // object in that place it is JSON as well, and with duplicate keys only if that has some.
  if (const auto span = FindSection(config_json); span && config_json[span->begin] == '{') {
    auto json = ParseJson(Replace(config_json, *span, kEmptyObject), kName);
    if (json) {
      return ConfigDocument(config_json, *std::move(json), span);
    }
  }
  auto json = ParseJson(config_json, kName);
  if (!json) {
    return std::unexpected(std::move(json.error()));
  }
  if (!json->is_object()) {
    return MakeError(EINVAL, fmt::format("{}:1:1: must be an object", kName));
  }
  return ConfigDocument(config_json, *std::move(json), std::nullopt);
}

Expected<void> ConfigDocument::ParseSection() {
  if (section_is_parsed_) {
    return {};
  }
  // As deep as it stands in the document.
  const std::string_view section = text_.substr(section_->begin, section_->end - section_->begin);
  auto inside = ParseJson(fmt::format("[[{}]]", section), kName);
  const bool is_one = inside && inside->size() == 1 && (*inside)[0].size() == 1;
  if (!is_one) {
    // Which place is wrong is told by the whole.
    const auto whole = ParseJson(text_, kName);
    return whole ? MakeError(EINVAL, fmt::format("{}: linux.seccomp is not one value", kName))
                 : std::unexpected(whole.error());
  }
  json_["linux"]["seccomp"] = std::move((*inside)[0][0]);
  section_is_parsed_ = true;
  return {};
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
  const auto span = section_ ? section_ : FindSection(text_);
  if (!span) {
    return MakeError(EINVAL, fmt::format("{}: linux.seccomp is not where it was parsed", kName));
  }
  return text_.substr(span->begin, span->end - span->begin);
}

Expected<std::string> ConfigDocument::ListenerPath() {
  if (auto parsed = ParseSection(); !parsed) {
    return std::unexpected(std::move(parsed.error()));
  }
  FactReader reader;
  std::string path =
      reader.String(reader.Object(reader.Object(json_, "linux"), "seccomp"), "listenerPath");
  if (!reader.error().empty()) {
    return MakeError(EINVAL, reader.error());
  }
  return path;
}

Expected<std::string> ConfigDocument::MergeSeccomp(const SeccompPlan& plan,
                                                   const ListenerConfig& listener) {
  if (auto parsed = ParseSection(); !parsed) {
    return std::unexpected(std::move(parsed.error()));
  }
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
  if (section_) {
    return Replace(text_, *section_, section);
  }
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
