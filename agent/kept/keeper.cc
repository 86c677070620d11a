#include "agent/kept/keeper.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <deque>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/kept/fd_store.h"
#include "agent/kept/keeper_protocol.h"
#include "agent/server/log_limit.h"
#include "agent/server/privileges.h"
#include "agent/server/unix_socket.h"
#include "base/trusted_path.h"

namespace oakum::agent {

namespace {

// Sessions of an agent, and connections: it has no more of them.
constexpr size_t kMaxItems = 16'384;
// Connections that have said nothing yet: an agent says something at once. Beyond it the oldest
// goes.
constexpr size_t kMaxStrangers = 64;
// An agent that does not take what it is handed, or says nothing, is not waited for longer.
constexpr timeval kPatience = {5, 0};
// A connection that there is no descriptor for stays in the backlog, where it is found again at
// once: that long it is left there.
constexpr int kAcceptPauseMs = 100;
// For the agent that has started this process.
constexpr int kFirstAgentWithinMs = 20'000;
// What an agent says is safe once it is sent: it is heard all at once after so long, for waking up
// each time costs more than all else, and much of it is forgotten by then.
constexpr int kLullMs = 2;

constexpr uint64_t kListenerKey = 0;
constexpr uint64_t kAgentKey = 1;
constexpr uint64_t kSignalKey = 2;
constexpr uint64_t kFirstItemKey = 16;

using Clock = std::chrono::steady_clock;

class Keeper {
 public:
  Keeper(UnixListener listener, UniqueFd epoll, UniqueFd signals, KeeperLife life, const Log& log)
      : listener_(std::move(listener)),
        epoll_(std::move(epoll)),
        signals_(std::move(signals)),
        life_(life),
        log_(log) {}

  Expected<void> Run() {
    for (const auto& [fd, key] :
         {std::pair{listener_.fd(), kListenerKey}, std::pair{signals_.get(), kSignalKey}}) {
      if (!Watch(fd, EPOLLIN, key)) {
        return ErrnoError("epoll_ctl");
      }
    }
    bool had_agent = false;
    while (!ending_) {
      const bool idle = life_ == KeeperLife::kWhileNeeded && !agent_ && items_.empty();
      if (idle && had_agent) {
        return {};
      }
      std::array<epoll_event, 64> events;
      const int timeout = hear_at_     ? kLullMs
                          : resume_at_ ? kAcceptPauseMs
                          : idle       ? kFirstAgentWithinMs
                                       : -1;
      const int count =
          epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout);
      if (count < 0 && errno != EINTR) {
        return ErrnoError("epoll_wait");
      }
      if (count == 0 && idle && !resume_at_) {
        return {};
      }
      if (hear_at_ && Clock::now() >= *hear_at_) {
        Listen(true);
        Hear();
      }
      if (resume_at_ && Clock::now() >= *resume_at_) {
        SetAccepting(true);
      }
      for (int i = 0; i < count; ++i) {
        Handle(events[static_cast<size_t>(i)]);
      }
      had_agent = had_agent || agent_.valid();
    }
    return {};
  }

 private:
  struct Item {
    uint64_t key = 0;
    std::vector<UniqueFd> fds;
  };

  // Has connected and said nothing yet.
  struct Stranger {
    uint64_t key = 0;
    UniqueFd socket;
    pid_t pid = 0;
  };

  [[nodiscard]] bool Watch(int fd, uint32_t what, uint64_t key) const {
    epoll_event event = {};
    event.events = what;
    event.data.u64 = key;
    return epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) == 0;
  }

  void Handle(const epoll_event& event) {
    const uint64_t key = event.data.u64;
    switch (key) {
      case kListenerKey:
        AcceptOne();
        return;
      case kAgentKey:
        if (event.events != EPOLLIN) {
          Hear();  // it has ended
        } else if (agent_ && !hear_at_) {
          Listen(false);
        }
        return;
      case kSignalKey:
        ending_ = true;
        return;
      default:
        if (HearStranger(key)) {
          return;
        }
        DropEnded(key);
    }
  }

  void SetAccepting(bool accepting) {
    epoll_event event = {};
    event.events = accepting ? uint32_t{EPOLLIN} : 0;
    event.data.u64 = kListenerKey;
    (void)epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, listener_.fd(), &event);
    resume_at_.reset();
    if (!accepting) {
      resume_at_ = Clock::now() + std::chrono::milliseconds(kAcceptPauseMs);
    }
  }

  // Whether it is woken up by what the agent says; its end does so in any case.
  void Listen(bool listening) {
    epoll_event event = {};
    event.events = listening ? uint32_t{EPOLLIN} : 0;
    event.data.u64 = kAgentKey;
    (void)epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, agent_.get(), &event);
    hear_at_.reset();
    if (!listening) {
      hear_at_ = Clock::now() + std::chrono::milliseconds(kLullMs);
    }
  }

  void AcceptOne() {
    auto accepted = Accept(listener_.fd());
    if (!accepted) {
      // Whatever there is a lack of, descriptors or memory, none of it is there a moment later.
      if (accepted.error().code != EAGAIN) {
        SetAccepting(false);
      }
      return;
    }
    const auto peer = PeerOf(accepted->get());
    if (!peer || !IsRootOrSelf(peer->uid)) {
      if (const auto more = refusals_.Ask(LogLimit::Clock::now()); more) {
        log_.Warning(
            "keeper: a connection is refused: user {} is neither root nor the keeper's own{}",
            peer ? static_cast<int64_t>(peer->uid) : -1, *more);
      }
      return;
    }
    if (strangers_.size() >= kMaxStrangers) {
      strangers_.pop_front();
    }
    const uint64_t key = next_key_++;
    if (Watch(accepted->get(), EPOLLIN, key)) {
      strangers_.push_back({key, std::move(*accepted), peer->pid});
    }
  }

  // One that has connected has said something, or has gone. False: there is none with that key.
  bool HearStranger(uint64_t key) {
    const auto found = std::ranges::find(strangers_, key, &Stranger::key);
    if (found == strangers_.end()) {
      return false;
    }
    Stranger stranger = std::move(*found);
    strangers_.erase(found);
    (void)epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, stranger.socket.get(), nullptr);
    const auto hello = ReceiveFromPeer(stranger.socket.get());
    if (hello && *hello && (*hello)->word == KeeperWord::kHello) {
      Welcome(std::move(stranger.socket), stranger.pid, (*hello)->version);
    }
    return true;
  }

  void Welcome(UniqueFd socket, pid_t pid, uint32_t version) {
    // What is said to it is waited for, for a bounded time; nobody else is of any interest
    // meanwhile.
    (void)fcntl(socket.get(), F_SETFL, 0);
    (void)setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &kPatience, sizeof kPatience);
    Hear();  // whatever the agent before has left, its end included
    if (agent_ && ProcessHasEnded(agent_pid_)) {
      log_.Warning("keeper: agent {} has ended, and a thread of it is held up in the kernel",
                   agent_pid_);
      LoseAgent();
    }
    if (agent_) {
      (void)SendToPeer(socket.get(), KeeperWord::kBusy, {}, {}, 0);
      return;
    }
    if (version != kKeeperVersion) {
      (void)SendToPeer(socket.get(), KeeperWord::kReady, {}, {}, 0);  // says our version
      return;
    }
    Serve(std::move(socket), pid);
  }

  void Serve(UniqueFd socket, pid_t pid) {
    DropEnded("");
    std::vector<int> fds;
    for (const auto& [name, item] : items_) {
      fds.clear();
      for (const UniqueFd& fd : item.fds) {
        fds.push_back(fd.get());
      }
      if (auto sent = SendToPeer(socket.get(), KeeperWord::kItem, name, fds, 0); !sent) {
        log_.Warning("keeper: an agent does not take what was kept: {}", sent.error().ToString());
        return;
      }
    }
    if (!SendToPeer(socket.get(), KeeperWord::kReady, {}, {}, 0) ||
        fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0 || !Watch(socket.get(), EPOLLIN, kAgentKey)) {
      return;
    }
    agent_ = std::move(socket);
    agent_pid_ = pid;
  }

  // All that the agent has said so far.
  void Hear() {
    while (agent_) {
      auto message = ReceiveFromPeer(agent_.get());
      if (!message) {
        if (message.error().code == EAGAIN || message.error().code == EINTR) {
          return;
        }
        if (message.error().code == EMSGSIZE) {
          log_.Error("keeper: {}", message.error().ToString());
          continue;
        }
        LoseAgent();
        return;
      }
      if (!*message) {
        LoseAgent();
        return;
      }
      if ((*message)->word == KeeperWord::kKeep) {
        Keep(std::move(**message));
      } else if ((*message)->word == KeeperWord::kForget) {
        items_.erase((*message)->name);
      }
    }
  }

  void Keep(KeeperMessage message) {
    if (items_.size() >= kMaxItems) {
      log_.Error("keeper: {} sessions and connections are kept already", kMaxItems);
      return;
    }
    Item item{next_key_++, std::move(message.fds)};
    // A connection goes with the session whose listener it has: a listener that is watched for each
    // would take that much longer to say that there is a call.
    if (!item.fds.empty() && !message.name.starts_with(kKeptRelayPrefix)) {
      // The listener comes first. Told once, when it hangs up: the agent has it as well.
      (void)Watch(item.fds.front().get(), EPOLLET, item.key);
    }
    items_.insert_or_assign(std::move(message.name), std::move(item));
  }

  // Of this item the listener has hung up: nobody is left whose calls it could be for. An agent
  // says so as well, unless its words did not fit any more.
  void DropEnded(uint64_t key) {
    std::erase_if(items_, [key](const auto& entry) { return entry.second.key == key; });
    DropEnded(kKeptRelayPrefix);
  }

  void LoseAgent() {
    agent_.Reset();
    hear_at_.reset();
    DropEnded("");
  }

  // Of those whose names begin so.
  void DropEnded(std::string_view prefix) {
    std::erase_if(items_, [prefix](const auto& entry) {
      if (!entry.first.starts_with(prefix)) {
        return false;
      }
      const auto& fds = entry.second.fds;
      pollfd look = {fds.empty() ? -1 : fds.front().get(), 0, 0};
      return fds.empty() || (poll(&look, 1, 0) == 1 && (look.revents & POLLHUP) != 0);
    });
  }

  UnixListener listener_;
  const UniqueFd epoll_;
  const UniqueFd signals_;
  const KeeperLife life_;
  const Log& log_;
  bool ending_ = false;
  std::optional<Clock::time_point> resume_at_;  // nothing is accepted before
  std::optional<Clock::time_point> hear_at_;    // nothing of what the agent says is heard before
  UniqueFd agent_;
  pid_t agent_pid_ = 0;
  std::deque<Stranger> strangers_;  // oldest first
  LogLimit refusals_;
  uint64_t next_key_ = kFirstItemKey;
  std::map<std::string, Item> items_;
};

}  // namespace

Expected<void> RunKeeper(const std::string& path, KeeperLife life, const Log& log) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  if (sigprocmask(SIG_BLOCK, &set, nullptr) != 0) {
    return ErrnoError("sigprocmask");
  }
  UniqueFd signals(signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC));
  UniqueFd epoll(epoll_create1(EPOLL_CLOEXEC));
  if (!signals || !epoll) {
    return ErrnoError("epoll_create1");
  }
  auto listener = UnixListener::Create(path, SOCK_SEQPACKET);
  if (!listener) {
    return std::unexpected(std::move(listener.error()));
  }
  (void)prctl(PR_SET_NAME, "oakum-keeper");
  if (auto given_up = GiveUpPrivileges(Keeps::kNothing); !given_up) {
    return given_up;
  }
  if (life == KeeperLife::kForEver) {
    (void)sd_notify(0, "READY=1");
  }
  return Keeper(std::move(*listener), std::move(epoll), std::move(signals), life, log).Run();
}

}  // namespace oakum::agent
