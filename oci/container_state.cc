#include "oci/container_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <limits>
#include <utility>

#include "oci/json.h"

namespace oakum::oci {

namespace {

constexpr std::string_view kName = "container process state";
constexpr std::string_view kSeccompFdName = "seccompFd";
constexpr std::string_view kWhitespace = " \t\r\n";  // RFC 8259 section 2

// Reads members of one object and keeps the first error.
class Reader {
 public:
  Reader(const Json& object, std::string_view prefix) : object_(object), prefix_(prefix) {}

  // The member, nullptr when it is absent or null (as Go writes an empty map or list).
  const Json* Find(const char* key) const {
    const auto found = object_.find(key);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
  }

  const Json* Need(const char* key) {
    const Json* value = Find(key);
    if (value == nullptr) {
      Fail(key, "is missing");
    }
    return value;
  }

  void String(const char* key, bool required, std::string& out) {
    const Json* value = required ? Need(key) : Find(key);
    if (value == nullptr) {
      return;
    }
    if (!value->is_string()) {
      Fail(key, "must be a string");
      return;
    }
    out = value->get_ref<const std::string&>();
  }

  void Pid(const char* key, bool required, pid_t& out) {
    const Json* value = required ? Need(key) : Find(key);
    if (value == nullptr) {
      return;
    }
    if (!value->is_number_unsigned() ||
        value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<pid_t>::max())) {
      Fail(key, "must be a process id");
      return;
    }
    out = static_cast<pid_t>(value->get<uint64_t>());
  }

  void Fail(std::string_view key, std::string_view what) {
    if (error_.empty()) {
      error_ = fmt::format("{}: \"{}{}\" {}", kName, prefix_, key, what);
    }
  }

  const std::string& error() const { return error_; }

 private:
  const Json& object_;
  std::string_view prefix_;
  std::string error_;
};

void ReadFdNames(Reader& reader, std::vector<std::string>& out) {
  const Json* fds = reader.Need("fds");
  if (fds == nullptr) {
    return;
  }
  if (!fds->is_array()) {
    reader.Fail("fds", "must be a list of strings");
    return;
  }
  for (const Json& name : *fds) {
    if (!name.is_string()) {
      reader.Fail("fds", "must be a list of strings");
      return;
    }
    out.push_back(name.get_ref<const std::string&>());
  }
}

void ReadAnnotations(Reader& reader, std::map<std::string, std::string>& out) {
  const Json* annotations = reader.Find("annotations");
  if (annotations == nullptr) {
    return;
  }
  if (!annotations->is_object()) {
    reader.Fail("annotations", "must be an object of strings");
    return;
  }
  for (const auto& [key, value] : annotations->get_ref<const Json::object_t&>()) {
    if (!value.is_string()) {
      reader.Fail("annotations", "must be an object of strings");
      return;
    }
    out.emplace(key, value.get_ref<const std::string&>());
  }
}

}  // namespace

Expected<ContainerProcessState> ParseContainerProcessState(std::string_view json) {
  const Expected<Json> document = ParseJson(json, kName);
  if (!document) {
    return std::unexpected(document.error());
  }
  if (!document->is_object()) {
    return MakeError(EINVAL, fmt::format("{}: must be an object", kName));
  }
  ContainerProcessState state;
  Reader outer(*document, "");
  outer.String("ociVersion", true, state.oci_version);
  ReadFdNames(outer, state.fd_names);
  outer.Pid("pid", true, state.pid);
  outer.String("metadata", false, state.metadata);
  const Json* inner_object = outer.Need("state");
  if (inner_object != nullptr && !inner_object->is_object()) {
    outer.Fail("state", "must be an object");
  }
  if (!outer.error().empty()) {
    return MakeError(EINVAL, outer.error());
  }
  Reader inner(*inner_object, "state.");
  inner.String("id", true, state.id);
  inner.String("status", false, state.status);
  inner.Pid("pid", false, state.init_pid);
  inner.String("bundle", false, state.bundle);
  ReadAnnotations(inner, state.annotations);
  if (state.id.empty()) {
    inner.Fail("id", "is empty");
  }
  if (state.id.size() > kMaxContainerId) {
    inner.Fail("id", fmt::format("has {} bytes; {} is the most", state.id.size(), kMaxContainerId));
  }
  if (state.bundle.size() >= PATH_MAX) {
    inner.Fail("bundle", "is longer than a path");
  }
  if (!inner.error().empty()) {
    return MakeError(EINVAL, inner.error());
  }
  return state;
}

Expected<UniqueFd> TakeSeccompFd(const std::vector<std::string>& fd_names,
                                 std::vector<UniqueFd>& fds) {
  if (fd_names.size() != fds.size()) {
    return MakeError(EPROTO, fmt::format("{}: {} descriptors received, {} named", kName, fds.size(),
                                         fd_names.size()));
  }
  const auto named = std::count(fd_names.begin(), fd_names.end(), kSeccompFdName);
  if (named != 1) {
    return MakeError(EPROTO, fmt::format("{}: {} descriptors named \"{}\" where one is expected",
                                         kName, named, kSeccompFdName));
  }
  const auto at = std::find(fd_names.begin(), fd_names.end(), kSeccompFdName) - fd_names.begin();
  UniqueFd fd = std::move(fds[static_cast<size_t>(at)]);
  fds.erase(fds.begin() + at);
  return fd;
}

Expected<std::optional<std::string>> ObjectFramer::Feed(std::string_view piece) {
  if (failed_) {
    return MakeError(EINVAL, fmt::format("{}: the stream has already failed", kName));
  }
  if (!started()) {
    const size_t start = std::min(piece.find_first_not_of(kWhitespace), piece.size());
    received_ += start;
    piece.remove_prefix(start);
    if (!piece.empty() && piece[0] != '{') {
      failed_ = true;
      return MakeError(EINVAL, fmt::format("{}: starts with \"{}\" instead of an object", kName,
                                           Escape(piece, 16)));
    }
  }
  size_t used = 0;
  bool complete = false;
  while (used < piece.size() && !complete) {
    const char c = piece[used++];
    if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if (c == '}' || c == ']') {
      complete = --depth_ == 0;
    }
  }
  received_ += used;
  if (received_ > limit_) {
    failed_ = true;
    text_.clear();
    return MakeError(EMSGSIZE, fmt::format("{}: longer than {} bytes", kName, limit_));
  }
  text_.append(piece.substr(0, used));
  if (!complete) {
    return std::nullopt;
  }
  piece.remove_prefix(used);
  if (piece.find_first_not_of(kWhitespace) != std::string_view::npos) {
    failed_ = true;
    return MakeError(EINVAL,
                     fmt::format("{}: \"{}\" follows the object", kName, Escape(piece, 16)));
  }
  received_ = 0;
  return std::exchange(text_, {});
}

}  // namespace oakum::oci
