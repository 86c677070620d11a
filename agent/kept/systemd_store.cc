#include "agent/kept/systemd_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "agent/server/send_descriptors.h"

namespace oakum::agent {

namespace {

// The name of a socket that listens for several connections that wait; its SO_COOKIE follows.
constexpr std::string_view kPortPrefix = "port-";
// Behind the name of such a connection, before the cookie.
constexpr char kAtPort = '.';
// systemd that is busy with units does not read for a moment (sd_notify(3)).
constexpr timeval kTakesWithin = {0, 100'000};
constexpr std::chrono::milliseconds kBetweenTries{20};
// What is to be forgotten and systemd has no room to hear of yet.
constexpr size_t kMaxUnsaid = 16'384;

uint64_t Cookie(int socket_fd) {
  uint64_t cookie = 0;
  socklen_t size = sizeof cookie;
  return getsockopt(socket_fd, SOL_SOCKET, SO_COOKIE, &cookie, &size) == 0 ? cookie : 0;
}

bool IsListening(int fd) {
  int listens = 0;
  socklen_t size = sizeof listens;
  return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) == 0 && listens != 0;
}

// The same file, opened again; invalid where it cannot be, or need not. The sessions of a container
// share its root, and a file of names.
UniqueFd OpenedAgain(int fd) {
  struct stat status = {};
  const bool shared =
      fcntl(fd, F_GET_SEALS) >= 0 || (fstat(fd, &status) == 0 && S_ISDIR(status.st_mode));
  const int flags = shared ? fcntl(fd, F_GETFL) : -1;
  return flags < 0 ? UniqueFd()
                   : UniqueFd(open(fmt::format("/proc/self/fd/{}", fd).c_str(),
                                   (flags & (O_ACCMODE | O_PATH | O_DIRECTORY)) | O_CLOEXEC));
}

// systemd keeps a descriptor once, under the name that it was first handed over with, whatever else
// it is handed over for (kcmp(2), KCMP_FILE), and drops all that has a name together. So nothing is
// handed over for two: files are opened again, and a socket that cannot be has a name of its own.
class SystemdStore final : public FdStore {
 public:
  // In the network namespace that the name is of: it may be an abstract one (unix(7)).
  explicit SystemdStore(std::string path) : path_(std::move(path)) { (void)Connect(); }

  ~SystemdStore() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    if (sayer_.joinable()) {
      sayer_.join();
    }
  }

  Expected<void> Keep(const std::string& name, std::span<const int> fds) override {
    return Keep(name, fds, 0);
  }
  Expected<void> TryKeep(const std::string& name, std::span<const int> fds) override {
    return Keep(name, fds, MSG_DONTWAIT);
  }
  void Forget(const std::string& name) override {
    const std::lock_guard lock(mutex_);
    const auto port = port_of_.extract(name);
    Remove(port ? AtPort(name, port.mapped()) : name);
    if (port) {
      LeavePort(port.mapped());
    }
    SayTheRest(MSG_DONTWAIT);
    if (!unsaid_.empty()) {
      SayLater();
    }
  }

  // A connection waits there. False: that is known.
  bool TakeUp(const std::string& name, uint64_t port) {
    const bool is_new = port_of_.emplace(name, port).second;
    ports_[port] += is_new ? 1 : 0;
    return is_new;
  }
  void Remove(const std::string& stored) {
    if (unsaid_.size() < kMaxUnsaid) {
      unsaid_.push_back(stored);
    }
  }

  [[nodiscard]] static std::string AtPort(const std::string& name, uint64_t port) {
    return fmt::format("{}{}{:x}", name, kAtPort, port);
  }

 private:
  Expected<void> Keep(const std::string& name, std::span<const int> fds, int flags) {
    std::vector<UniqueFd> again;
    std::vector<int> own;
    int listener = -1;
    // A connection's session has been handed over with the listener of its calls.
    for (const int fd : fds.subspan(name.starts_with(kKeptRelayPrefix) && !fds.empty() ? 1 : 0)) {
      if (IsListening(fd)) {
        listener = fd;
        continue;
      }
      UniqueFd opened = OpenedAgain(fd);
      own.push_back(opened ? opened.get() : fd);
      again.push_back(std::move(opened));
    }
    const std::lock_guard lock(mutex_);
    SayTheRest(flags);  // before: it may be of the same names
    if (!unsaid_.empty()) {
      return MakeError(EAGAIN, "systemd does not keep up");
    }
    const uint64_t port = listener >= 0 ? Cookie(listener) : 0;
    if (port == 0) {
      return Store(name, own, flags);
    }
    if (!ports_.contains(port)) {
      if (auto stored = Store(PortName(port), {&listener, 1}, flags); !stored) {
        return stored;
      }
    }
    const bool is_new = TakeUp(name, port);
    auto stored = Store(AtPort(name, port), own, flags);
    if (!stored && is_new) {
      port_of_.erase(name);
      LeavePort(port);
    }
    return stored;
  }

  static std::string PortName(uint64_t port) { return fmt::format("{}{:x}", kPortPrefix, port); }

  void LeavePort(uint64_t port) {
    if (const auto users = ports_.find(port); users != ports_.end() && --users->second == 0) {
      ports_.erase(users);
      Remove(PortName(port));
    }
  }

  Expected<void> Store(const std::string& stored, std::span<const int> fds, int flags) {
    // FDPOLL=0: systemd would drop a listener when the container's tasks are gone, and keep the
    // rest.
    return Send(fmt::format("FDSTORE=1\nFDPOLL=0\nFDNAME={}", stored), fds, flags);
  }

  void SayTheRest(int flags) {
    while (!unsaid_.empty() &&
           Send(fmt::format("FDSTOREREMOVE=1\nFDNAME={}", unsaid_.front()), {}, flags)) {
      unsaid_.pop_front();
    }
  }

  // Nothing else may come that it could be said before.
  void SayLater() {
    changed_.notify_all();
    if (sayer_.joinable()) {
      return;
    }
    try {
      sayer_ = std::thread([this] {
        std::unique_lock lock(mutex_);
        while (!stopping_) {
          if (unsaid_.empty()) {
            changed_.wait(lock);
          } else {
            changed_.wait_for(lock, kBetweenTries);
            SayTheRest(MSG_DONTWAIT);
          }
        }
      });
    } catch (const std::system_error&) {
      return;  // no room for a thread: the next time
    }
  }

  // sd_notify(3) would wait for as long as it takes.
  Expected<void> Send(const std::string& words, std::span<const int> fds, int flags) {
    for (int tries = 0;; ++tries) {
      if (!socket_) {
        if (auto connected = Connect(); !connected) {
          return connected;
        }
      }
      auto sent = SendWithDescriptors(socket_.get(), words, fds, flags);
      if (sent || (sent.error().code != ECONNREFUSED && sent.error().code != ENOTCONN) ||
          tries > 0) {
        return sent ? std::move(sent)
                    : std::unexpected(std::move(sent.error()).Context("hand over to systemd"));
      }
      socket_.Reset();  // another socket has its name by now
    }
  }

  Expected<void> Connect() {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    if (path_.empty() || path_.size() >= sizeof address.sun_path) {
      return MakeError(ENAMETOOLONG, "NOTIFY_SOCKET is too long");
    }
    memcpy(address.sun_path, path_.data(), path_.size());
    if (path_.front() == '@') {
      address.sun_path[0] = '\0';  // abstract, as long as the name
    }
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path_.size() +
                                             (path_.front() == '@' ? 0 : 1));
    socket_.Reset(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (!socket_) {
      return ErrnoError("socket");
    }
    (void)setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &kTakesWithin, sizeof kTakesWithin);
    if (connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address), size) != 0) {
      Error error{errno, "connect to NOTIFY_SOCKET"};
      socket_.Reset();
      return std::unexpected(std::move(error));
    }
    return {};
  }

  const std::string path_;
  std::mutex mutex_;
  UniqueFd socket_;
  std::map<std::string, uint64_t> port_of_;  // of connections that wait
  std::map<uint64_t, size_t> ports_;         // how many wait there
  std::deque<std::string> unsaid_;           // stored names that are to be forgotten
  bool stopping_ = false;
  std::condition_variable changed_;
  std::thread sayer_;  // only where systemd has not kept up
};

// The cookie that ends a stored name; 0: none does.
uint64_t PortOf(std::string_view text) {
  uint64_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port, 16);
  return error == std::errc() && end == text.data() + text.size() ? port : 0;
}

using ByName = std::map<std::string, std::vector<UniqueFd>>;

// What was handed over by those names, and the store knows of it again.
std::vector<KeptItem> Sort(ByName by_name, SystemdStore& store) {
  std::map<uint64_t, UniqueFd> listeners;
  for (auto& [stored, fds] : by_name) {
    if (stored.starts_with(kPortPrefix)) {
      listeners[PortOf(std::string_view(stored).substr(kPortPrefix.size()))] =
          std::move(fds.front());
    }
  }
  std::vector<KeptItem> items;
  std::map<uint64_t, bool> used;
  for (auto& [stored, fds] : by_name) {
    if (stored.starts_with(kPortPrefix)) {
      continue;
    }
    KeptItem item{stored, std::move(fds)};
    const size_t dot = stored.rfind(kAtPort);
    const uint64_t port =
        dot != std::string::npos ? PortOf(std::string_view(stored).substr(dot + 1)) : 0;
    if (port != 0) {
      item.name.resize(dot);
      (void)store.TakeUp(item.name, port);
      used[port] = true;
      if (const auto found = listeners.find(port); found != listeners.end()) {
        item.fds.emplace_back(fcntl(found->second.get(), F_DUPFD_CLOEXEC, 0));
      }
    }
    items.push_back(std::move(item));
  }
  for (const auto& [stored, fds] : by_name) {
    if (stored.starts_with(kPortPrefix) &&
        !used.contains(PortOf(std::string_view(stored).substr(kPortPrefix.size())))) {
      store.Remove(stored);
    }
  }
  return items;
}

}  // namespace

Expected<std::optional<OpenedStore>> OpenSystemdStore() {
  const char* notify = std::getenv("NOTIFY_SOCKET");
  if (notify == nullptr || std::getenv("INVOCATION_ID") == nullptr) {
    return std::nullopt;
  }
  char** names = nullptr;
  const int count = sd_listen_fds_with_names(1, &names);
  if (count < 0) {
    return ErrnoError(-count, "take the descriptors that systemd has kept");
  }
  ByName by_name;
  for (int i = 0; i < count; ++i) {
    by_name[names[i]].emplace_back(SD_LISTEN_FDS_START + i);
    free(names[i]);
  }
  free(static_cast<void*>(names));
  auto store = std::make_unique<SystemdStore>(notify);
  OpenedStore opened;
  opened.items = Sort(std::move(by_name), *store);
  opened.store = std::move(store);
  return opened;
}

}  // namespace oakum::agent
