#include "hook/guard.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/trusted_path.h"
#include "base/unique_fd.h"
#include "oci/config.h"
#include "policy/plan.h"

namespace oakum::hook {

namespace {

// The JSON object `section` with the listener's metadata as its last member, where MergeSeccomp
// puts it.
Expected<std::string> WithMetadata(std::string_view section, const std::string& metadata) {
  try {
    return fmt::format("{},\"listenerMetadata\":{}}}", section.substr(0, section.size() - 1),
                       oci::Json(metadata).dump());
  } catch (const oci::Json::exception&) {
    return MakeError(EINVAL, "a name of the container is not UTF-8");
  }
}

Expected<std::string> MergedSection(oci::ConfigDocument& document, const oci::SeccompPlan& plan,
                                    oci::ListenerConfig listener, const MergeCache* cache) {
  const auto section = document.Seccomp();
  if (!section) {
    return std::unexpected(section.error());
  }
  std::string metadata = std::exchange(listener.metadata, {});
  const std::string key = cache != nullptr ? MergeKey(*section, plan, listener) : std::string();
  // What is found was a section without a listener, byte for byte, that has been read and merged.
  if (const auto kept = cache != nullptr ? cache->Find(key) : std::nullopt) {
    return WithMetadata(*kept, metadata);
  }
  const auto already = document.ListenerPath();
  if (!already) {
    return std::unexpected(already.error());
  }
  if (!already->empty()) {
    // Where somebody has been before, the metadata is in the section already.
    listener.metadata = std::move(metadata);
    return document.MergeSeccomp(plan, listener);
  }
  auto made = document.MergeSeccomp(plan, listener);
  if (!made) {
    return made;
  }
  if (cache != nullptr) {
    cache->Store(key, *made);
  }
  return WithMetadata(*made, metadata);
}

}  // namespace

Expected<std::string> GuardConfig(std::string_view config_json, const Origin& origin,
                                  const policy::PolicySet& policies, const std::string& socket,
                                  std::vector<std::string> filter_flags, const MergeCache* cache,
                                  std::vector<std::string> absent_archs) {
  auto document = oci::ConfigDocument::Parse(config_json);
  if (!document) {
    return std::unexpected(std::move(document.error()));
  }
  const auto facts = document->Facts();
  if (!facts) {
    return std::unexpected(facts.error());
  }
  policy::ListenerMetadata metadata;
  metadata.facts = ReadFacts(*facts, origin);
  const auto policy = policies.Match(metadata.facts);
  if (!policy) {
    return std::unexpected(policy.error());
  }
  metadata.policy = (*policy)->name();
  const oci::SeccompPlan plan = policy::Plan(**policy);
  metadata.filter = policy::RecordOf(plan);
  oci::ListenerConfig listener;
  listener.path = socket;
  listener.metadata = policy::EncodeListenerMetadata(metadata);
  listener.flags = std::move(filter_flags);
  listener.absent_archs = std::move(absent_archs);
  auto section = MergedSection(*document, plan, std::move(listener), cache);
  if (!section) {
    return std::unexpected(
        std::move(section.error()).Context(fmt::format("policy \"{}\"", metadata.policy)));
  }
  return document->ReplaceSeccomp(*section);
}

MergeCache CacheBeside(const std::string& socket) {
  return MergeCache(socket.substr(0, socket.rfind('/')) + "/merged");
}

Expected<void> CheckAgent(const std::string& socket_path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (socket_path.size() >= sizeof(address.sun_path)) {
    return MakeError(ENAMETOOLONG, fmt::format("the agent's socket path {} is longer than {} bytes",
                                               socket_path, sizeof(address.sun_path) - 1));
  }
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  const UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) {
    return ErrnoError("socket");
  }
  const auto unmapped = UnmappedUid();
  if (auto ours = CheckOnlyOursToReplace(socket_path, unmapped); !ours) {
    return std::unexpected(std::move(ours.error()).Context("the agent's socket"));
  }
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    const int error = errno;
    return MakeError(
        error,
        fmt::format("the agent is not running: connect to {}: {}; start it with "
                    "\"systemctl start oakum-agent\" (rootless: \"podman unshare oakum-agent\") or "
                    "\"oakum-agent --socket {}\"",
                    socket_path, std::strerror(error), socket_path));
  }
  ucred server = {};  // of whoever called listen(2)
  socklen_t length = sizeof server;
  if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &server, &length) != 0) {
    return ErrnoError("SO_PEERCRED");
  }
  if (!IsRootOrSelf(server.uid, unmapped)) {
    return MakeError(EPERM, fmt::format("the agent's socket {}: who listens there is user {}, "
                                        "neither root nor user {}",
                                        socket_path, server.uid, geteuid()));
  }
  return {};
}

}  // namespace oakum::hook
