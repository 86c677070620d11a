#include "agent/proxy/tls_service.h"

#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <semaphore>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "agent/proxy/relay.h"
#include "agent/proxy/tls_context.h"
#include "agent/proxy/tls_process.h"
#include "agent/proxy/tls_stream.h"
#include "agent/proxy/worker.h"
#include "agent/server/privileges.h"
#include "agent/server/unix_socket.h"

namespace oakum::agent {

namespace {

constexpr std::array kRefusedToTls = {"socket",
                                      "socketpair",
                                      "bind",
                                      "listen",
                                      "accept",
                                      "accept4",
                                      "fork",
                                      "vfork",
                                      "kill",
                                      "tkill",
                                      "setns",
                                      "bpf",
                                      "pidfd_getfd",
                                      "pidfd_open",
                                      "pidfd_send_signal",
                                      "process_vm_readv",
                                      "process_vm_writev",
                                      "io_uring_setup",
                                      "io_uring_enter",
                                      "io_uring_register",
                                      "chroot",
                                      "chmod",
                                      "fchmod",
                                      "fchmodat",
                                      "chown",
                                      "fchown",
                                      "lchown",
                                      "fchownat",
                                      "unlink",
                                      "unlinkat",
                                      "rename",
                                      "renameat",
                                      "renameat2",
                                      "link",
                                      "linkat",
                                      "symlink",
                                      "symlinkat",
                                      "mkdir",
                                      "mkdirat",
                                      "rmdir",
                                      "truncate",
                                      "memfd_create",
                                      "setuid",
                                      "setgid",
                                      "setresuid",
                                      "setresgid",
                                      "setgroups"};

// A handshake that the agent has not given up on by then.
constexpr std::chrono::seconds kHandshakeWithin{60};
constexpr size_t kPiece = size_t{16} * 1024;
constexpr size_t kMaxWorkers = 4;

// What the connections of the process share. Thread-safe.
struct Shared {
  TlsContexts contexts = {};
  const size_t max;
  std::atomic<size_t> users{1};  // connections, and the line
  std::binary_semaphore unused{0};

  void Leave() {
    if (users.fetch_sub(1) == 1) {
      unused.release();
    }
  }
};

struct Request {
  std::string peer;
  std::string ca_file;
  UniqueFd socket;
  UniqueFd pair;
};

void Say(int pair_fd, TlsWord word) {
  (void)send(pair_fd, &word, sizeof word, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void Refuse(int pair_fd, int error, std::string_view why) {
  const auto code = static_cast<int32_t>(error);
  std::string words(1, static_cast<char>(TlsWord::kRefused));
  words.append(reinterpret_cast<const char*>(&code), sizeof code);
  words += why;
  (void)send(pair_fd, words.data(), words.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

// Lives on its worker.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Worker& worker, Shared& shared, UniqueFd socket, UniqueFd pair)
      : worker_(worker), shared_(shared), pair_(std::move(pair)) {
    far_.fd = std::move(socket);
  }
  ~Connection() {
    worker_.loop().RemoveTimer(timer_);
    Watch(far_.fd.get(), far_watched_, 0);
    Watch(pair_.get(), pair_watched_, 0);
    shared_.Leave();
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Begin(const Request& request) {
    auto context = shared_.contexts.Get(request.ca_file);
    if (!context) {
      Say(pair_.get(), TlsWord::kYours);
      return Drop();
    }
    auto tls = TlsStream::Start(std::move(*context), far_.fd.get(), request.peer);
    if (!tls) {
      Refuse(pair_.get(), EACCES, tls.error().what);
      return Drop();
    }
    far_.tls = std::move(*tls);
    timer_ = worker_.loop().AddTimer(kHandshakeWithin, [this] {
      timer_ = EventLoop::TimerId::kNone;
      Drop();
    });
    WatchPair(EPOLLRDHUP);
    Encrypt();
  }

 private:
  enum class Phase : uint8_t { kHandshake, kProxy, kRelay };

  void Drop() {
    const auto self = shared_from_this();
    worker_.Drop(this);
  }

  void Watch(int fd, uint32_t& watched, uint32_t events) {
    EventLoop& loop = worker_.loop();
    if (events == watched) {
      return;
    }
    if (events == 0) {
      loop.Remove(fd);
      watched = 0;
      return;
    }
    const bool is_far = fd == far_.fd.get();
    const auto done =
        watched != 0 ? loop.Modify(fd, events) : loop.Add(fd, events, [this, is_far](uint32_t got) {
          is_far ? FarReady() : PairReady(got);
        });
    watched = done ? events : 0;
  }
  void WatchFar(uint32_t events) { Watch(far_.fd.get(), far_watched_, events); }
  void WatchPair(uint32_t events) { Watch(pair_.get(), pair_watched_, events); }

  void FarReady() { phase_ == Phase::kHandshake ? Encrypt() : Converse(); }

  void PairReady(uint32_t events) {
    switch (phase_) {
      case Phase::kHandshake:
        return Drop();  // the agent has given up
      case Phase::kProxy:
        return Converse();
      case Phase::kRelay:
        return HearOfRelay(events);
    }
  }

  void Encrypt() {
    if (far_.tls->Handshake() == 0) {
      worker_.loop().RemoveTimer(std::exchange(timer_, EventLoop::TimerId::kNone));
      phase_ = Phase::kProxy;
      Say(pair_.get(), TlsWord::kReady);
      return Converse();
    }
    if (errno == EAGAIN) {
      return WatchFar(far_.tls->wants());
    }
    Refuse(pair_.get(), errno, far_.tls->problem());
    Drop();
  }

  // The agent speaks to the proxy.
  void Converse() {
    const auto self = shared_from_this();
    uint32_t far_events = 0;
    if (!FromAgent(far_events) || !FromProxy(far_events)) {
      return Drop();
    }
    if (near_) {
      return StartRelay();
    }
    WatchFar(far_events);
    WatchPair((to_proxy_.empty() ? uint32_t{EPOLLIN} | uint32_t{EPOLLRDHUP} : 0) |
              (to_agent_.empty() ? 0 : uint32_t{EPOLLOUT}));
    if (pair_watched_ == 0) {
      WatchPair(EPOLLRDHUP);
    }
  }

  // False when that is over.
  [[nodiscard]] bool FromAgent(uint32_t& far_events) {
    while (!near_) {
      if (to_proxy_.empty()) {
        std::array<char, kPiece> buffer;
        auto got = ReceiveMessage(pair_.get(), buffer);
        if (!got) {
          return got.error().code == EAGAIN;
        }
        if (got->fds.size() == 2) {
          near_ = std::move(got->fds[0]);
          agents_end_ = std::move(got->fds[1]);
          return true;
        }
        if (got->bytes == 0 || !got->fds.empty()) {
          return false;
        }
        to_proxy_.assign(buffer.data(), got->bytes);
      }
      const ssize_t put = far_.tls->Write(to_proxy_.data(), to_proxy_.size());
      if (put < 0 && errno == EAGAIN) {
        far_events |= far_.tls->wants();
        return true;
      }
      if (put < 0) {
        to_proxy_.clear();  // reading says so too
        continue;
      }
      to_proxy_.erase(0, static_cast<size_t>(put));
    }
    return true;
  }

  [[nodiscard]] bool FromProxy(uint32_t& far_events) {
    while (!far_ended_ && !near_) {
      if (to_agent_.empty()) {
        to_agent_.resize(kPiece);
        const ssize_t got = far_.tls->Read(to_agent_.data(), to_agent_.size());
        const int error = errno;
        to_agent_.resize(got > 0 ? static_cast<size_t>(got) : 0);
        if (got < 0 && error == EAGAIN) {
          far_events |= far_.tls->wants();
          return true;
        }
        // A relay that is made of it finds out how that was, after what was said before.
        if (got <= 0) {
          far_ended_ = true;
          (void)shutdown(pair_.get(), SHUT_WR);
          return true;
        }
      }
      const ssize_t put =
          send(pair_.get(), to_agent_.data(), to_agent_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (put < 0) {
        return errno == EAGAIN;
      }
      to_agent_.erase(0, static_cast<size_t>(put));
    }
    return true;
  }

  // What the proxy has said and the agent has not read.
  [[nodiscard]] std::string TakeUnread() {
    std::string unread;
    std::array<char, kPiece> buffer;
    for (;;) {
      const ssize_t got = recv(agents_end_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
      if (got <= 0) {
        agents_end_.Reset();
        return unread + std::exchange(to_agent_, {});
      }
      unread.append(buffer.data(), static_cast<size_t>(got));
    }
  }

  void StartRelay() {
    WatchFar(0);
    phase_ = Phase::kRelay;
    RelayRequest request;
    request.near = std::move(near_);
    request.far = std::move(far_);
    request.early = std::exchange(to_proxy_, {});
    request.early_back = TakeUnread();
    request.shared = true;
    request.ended = [weak = weak_from_this()](bool in_order) {
      if (const auto self = weak.lock(); self != nullptr) {
        if (in_order) {
          Say(self->pair_.get(), TlsWord::kEnded);
        }
        self->Drop();
      }
    };
    WatchPair(uint32_t{EPOLLIN} | uint32_t{EPOLLRDHUP});
    relay_ = Relay::Start(worker_, std::move(request));
  }

  void HearOfRelay(uint32_t /*events*/) {
    std::array<char, 16> buffer;
    const auto got = ReceiveMessage(pair_.get(), buffer);
    if ((got && got->bytes > 0) || (!got && got.error().code != ECONNRESET)) {
      return;  // said twice
    }
    const auto self = shared_from_this();
    if (const auto relay = relay_.lock(); relay != nullptr) {
      relay->Cut();
    } else {
      Drop();
    }
  }

  Worker& worker_;
  Shared& shared_;
  Phase phase_ = Phase::kHandshake;
  ProxyStream far_;
  UniqueFd pair_;
  uint32_t far_watched_ = 0;
  uint32_t pair_watched_ = 0;
  EventLoop::TimerId timer_ = EventLoop::TimerId::kNone;
  std::string to_proxy_;
  std::string to_agent_;
  bool far_ended_ = false;
  UniqueFd near_;
  UniqueFd agents_end_;
  std::weak_ptr<Relay> relay_;
};

class TlsService {
 public:
  TlsService(UniqueFd line, size_t max) : line_(std::move(line)), shared_{.max = max} {}

  Expected<void> Run() {
    // Here and now: afterwards there is no one to tell.
    const size_t count = std::clamp<size_t>(std::thread::hardware_concurrency(), 1, kMaxWorkers);
    while (workers_.size() < count) {
      auto worker = Worker::Create("tls");
      if (!worker && workers_.empty()) {
        return std::unexpected(std::move(worker.error()));
      }
      if (!worker) {
        break;
      }
      workers_.push_back(std::move(*worker));
    }
    workers_.front()->Post([this] {
      (void)workers_.front()->loop().Add(line_.get(), EPOLLIN, [this](uint32_t) { Hear(); });
    });
    shared_.unused.acquire();
    return {};
  }

 private:
  // On the first worker.
  void Hear() {
    std::array<char, TlsProcess::kMaxRequest> buffer;
    auto got = ReceiveMessage(line_.get(), buffer);
    if (!got && got.error().code != ECONNRESET) {
      return;  // EMFILE: what was cut off is closed, and its agent sees that
    }
    if (!got || (got->bytes == 0 && got->fds.empty())) {
      workers_.front()->loop().Remove(line_.get());
      shared_.Leave();
      return;
    }
    const std::string_view words(buffer.data(), got->bytes);
    const size_t nul = words.find('\0');
    if (got->fds.size() != 2 || nul == std::string_view::npos) {
      return;
    }
    Request request{std::string(words.substr(0, nul)), std::string(words.substr(nul + 1)),
                    std::move(got->fds[0]), std::move(got->fds[1])};
    if (shared_.users.load() > shared_.max) {
      Say(request.pair.get(), TlsWord::kYours);
      return;
    }
    shared_.users.fetch_add(1);
    Worker& first = *workers_.front();
    Worker& least = **std::ranges::min_element(workers_, {}, &Worker::load);
    // To wake one up takes longer than what it is to do.
    if (first.load() <= least.load() + 1) {
      return Begin(first, request);
    }
    least.Post([this, &least, request = std::make_shared<Request>(std::move(request))] {
      Begin(least, *request);
    });
  }

  void Begin(Worker& worker, Request& request) {
    auto connection = std::make_shared<Connection>(worker, shared_, std::move(request.socket),
                                                   std::move(request.pair));
    worker.Keep(connection);
    connection->Begin(request);
  }

  UniqueFd line_;
  Shared shared_;
  std::vector<std::unique_ptr<Worker>> workers_;  // last: what they keep uses the others
};

}  // namespace

size_t MaxTlsConnections() {
  constexpr size_t kMost = 32'768;
  constexpr size_t kPart = 16;
  constexpr size_t kUnknownLimit = 1024;
  rlimit limit = {};
  return std::min(kMost,
                  (getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : kUnknownLimit) / kPart);
}

Expected<void> RunTlsProcess(UniqueFd line, size_t max) {
  (void)prctl(PR_SET_NAME, "oakum-tls");
  if (auto refused = RefuseSystemCalls(kRefusedToTls); !refused) {
    return refused;
  }
  return TlsService(std::move(line), max).Run();
}

}  // namespace oakum::agent
