#include "agent/kept/systemd_store.h"

#include <fmt/format.h>
#include <systemd/sd-daemon.h>

#include <cerrno>
#include <cstdlib>
#include <map>
#include <utility>

namespace oakum::agent {

namespace {

class SystemdStore final : public FdStore {
 public:
  Expected<void> Keep(const std::string& name, std::span<const int> fds) override {
    // FDPOLL=0: systemd would drop a listener when the container's tasks are gone, and keep the
    // rest.
    const std::string message = fmt::format("FDSTORE=1\nFDPOLL=0\nFDNAME={}", name);
    const int sent = sd_pid_notify_with_fds(0, 0, message.c_str(), fds.data(),
                                            static_cast<unsigned>(fds.size()));
    if (sent <= 0) {
      return ErrnoError(sent < 0 ? -sent : ENOTCONN, "hand descriptors to systemd");
    }
    return {};
  }
  void Forget(const std::string& name) override {
    (void)sd_notify(0, fmt::format("FDSTOREREMOVE=1\nFDNAME={}", name).c_str());
  }
};

}  // namespace

Expected<std::optional<OpenedStore>> OpenSystemdStore() {
  if (std::getenv("NOTIFY_SOCKET") == nullptr || std::getenv("INVOCATION_ID") == nullptr) {
    return std::nullopt;
  }
  char** names = nullptr;
  const int count = sd_listen_fds_with_names(1, &names);
  if (count < 0) {
    return ErrnoError(-count, "take the descriptors that systemd has kept");
  }
  std::map<std::string, std::vector<UniqueFd>> by_name;
  for (int i = 0; i < count; ++i) {
    by_name[names[i]].emplace_back(SD_LISTEN_FDS_START + i);
    free(names[i]);
  }
  free(static_cast<void*>(names));
  OpenedStore opened;
  opened.store = std::make_unique<SystemdStore>();
  for (auto& [name, fds] : by_name) {
    opened.items.push_back({name, std::move(fds)});
  }
  return opened;
}

}  // namespace oakum::agent
