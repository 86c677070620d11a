#include "agent/server/text_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "agent/server/fair_share.h"
#include "agent/server/unix_socket.h"

namespace oakum::agent {

namespace {

constexpr auto kSweepInterval = std::chrono::seconds(1);
// Of one turn of the loop.
constexpr int kAcceptsAtOnce = 64;
constexpr int kAnswersAtOnce = 8;

}  // namespace

Expected<std::unique_ptr<TextServer>> TextServer::Create(EventLoop& loop, int listener_fd,
                                                         TextServerOptions options, Admit admit,
                                                         Handler handler, const Log& log) {
  std::unique_ptr<TextServer> server(new TextServer(loop, listener_fd, std::move(options),
                                                    std::move(admit), std::move(handler), log));
  auto added = loop.Add(listener_fd, EPOLLIN, [raw = server.get()](uint32_t) { raw->AcceptAll(); });
  if (!added) {
    return std::unexpected(std::move(added.error()));
  }
  return server;
}

TextServer::TextServer(EventLoop& loop, int listener_fd, TextServerOptions options, Admit admit,
                       Handler handler, const Log& log)
    : loop_(loop),
      listener_fd_(listener_fd),
      options_(std::move(options)),
      admit_(std::move(admit)),
      handler_(std::move(handler)),
      log_(log) {}

TextServer::~TextServer() {
  loop_.RemoveTimer(sweep_);
  loop_.Remove(listener_fd_);
  for (const auto& [fd, client] : clients_) {
    loop_.Remove(fd);
  }
}

void TextServer::WaitFor(int fd, uint32_t events) {
  if (auto modified = loop_.Modify(fd, events); !modified) {
    log_.Warning("{}: {}", options_.name, modified.error().what);
  }
}

// Looks after idle clients as long as there are any.
void TextServer::ArmSweep() {
  if (sweep_ == EventLoop::TimerId::kNone) {
    sweep_ = loop_.AddTimer(kSweepInterval, [this] { Sweep(); });
  }
}

void TextServer::AcceptAll() {
  ArmSweep();
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    auto socket = Accept(listener_fd_);
    if (!socket) {
      const int code = socket.error().code;
      if (code != EAGAIN && code != EINTR && code != ECONNABORTED) {
        // No descriptor or memory: the sweep takes up accepting again.
        log_.Warning("{}: {}", options_.name, socket.error().what);
        WaitFor(listener_fd_, 0);
      }
      return;
    }
    Welcome(std::move(*socket));
  }
}

// Or closes it.
void TextServer::Welcome(UniqueFd socket) {
  const auto peer = admit_(socket.get());
  if (!peer || !MakeRoomFor(*peer)) {
    return;
  }
  const int fd = socket.get();
  if (loop_.Add(fd, EPOLLIN, [this, fd](uint32_t events) { Handle(fd, events); })) {
    Client& client = clients_[fd];
    client.socket = std::move(socket);
    client.peer = *peer;
    client.progress = EventLoop::Clock::now();
  }
}

bool TextServer::MakeRoomFor(const Peer& newcomer) {
  if (clients_.size() < options_.max_clients) {
    return true;
  }
  std::vector<Place> places;
  places.reserve(clients_.size());
  for (const auto& [fd, client] : clients_) {
    places.push_back({fd, client.peer, client.progress});
  }
  const auto fd = PlaceFor(newcomer, places);
  if (fd) {
    Close(*fd);
  }
  return fd.has_value();
}

bool TextServer::HasRequest(const Client& client) const {
  return client.in.size() > options_.max_request ||
         client.in.find(options_.terminator) != std::string::npos;
}

void TextServer::CloseWhoDoNotRead(int but_fd) {
  size_t unread = 0;
  for (const auto& [fd, client] : clients_) {
    unread += client.out.size() - client.sent;
  }
  while (unread > options_.max_unread) {
    const Client* slowest = nullptr;
    int slowest_fd = -1;
    for (const auto& [fd, client] : clients_) {
      if (fd != but_fd && !client.out.empty() &&
          (slowest == nullptr || client.progress < slowest->progress)) {
        slowest = &client;
        slowest_fd = fd;
      }
    }
    if (slowest == nullptr) {
      return;  // one answer alone
    }
    unread -= slowest->out.size() - slowest->sent;
    Close(slowest_fd);
  }
}

void TextServer::Handle(int fd, uint32_t events) {
  const auto found = clients_.find(fd);
  if (found == clients_.end()) {
    return;  // closed in the same turn, for another one's sake
  }
  Client& client = found->second;
  if ((events & (EPOLLERR | EPOLLHUP)) != 0 && (events & EPOLLIN) == 0) {
    Close(fd);
    return;
  }
  if (client.out.empty() && !HasRequest(client) && !Read(client)) {
    Close(fd);
    return;
  }
  // Others have their turn before the next requests of one that sends many.
  for (int i = 0; i < kAnswersAtOnce; ++i) {
    Answer(client);
    if (!Write(client)) {
      Close(fd);
      return;
    }
    if (!client.out.empty() || !HasRequest(client)) {
      break;
    }
  }
  WaitFor(fd, client.out.empty() && !HasRequest(client) ? EPOLLIN : EPOLLOUT);
  CloseWhoDoNotRead(fd);
}

bool TextServer::Read(Client& client) {
  std::array<char, 4'096> buffer;
  const ssize_t got = recv(client.socket.get(), buffer.data(), buffer.size(), 0);
  if (got <= 0) {
    return got < 0 && (errno == EAGAIN || errno == EINTR);
  }
  client.progress = EventLoop::Clock::now();
  client.in.append(buffer.data(), static_cast<size_t>(got));
  return true;
}

// One request at a time: the next one is answered when this answer has been read.
void TextServer::Answer(Client& client) {
  if (client.close || !client.out.empty()) {
    return;
  }
  const size_t end = client.in.find(options_.terminator);
  if (end > options_.max_request &&
      (end != std::string::npos || client.in.size() > options_.max_request)) {
    client.out = options_.too_long;
    client.close = true;
  } else if (end != std::string::npos) {
    Reply reply = handler_(std::string_view(client.in).substr(0, end), client.peer);
    client.in.erase(0, end + options_.terminator.size());
    client.out = std::move(reply.text);
    client.close = reply.close;
  }
}

bool TextServer::Write(Client& client) {
  while (client.sent < client.out.size()) {
    const ssize_t put = send(client.socket.get(), client.out.data() + client.sent,
                             client.out.size() - client.sent, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0) {
      return errno == EAGAIN || errno == EINTR;
    }
    client.progress = EventLoop::Clock::now();
    client.sent += static_cast<size_t>(put);
  }
  client.out = std::string();
  client.sent = 0;
  return !client.close;
}

void TextServer::Close(int fd) {
  loop_.Remove(fd);
  clients_.erase(fd);
}

void TextServer::Sweep() {
  const auto oldest = EventLoop::Clock::now() - options_.max_idle;
  std::vector<int> idle;
  for (const auto& [fd, client] : clients_) {
    if (client.progress < oldest) {
      idle.push_back(fd);
    }
  }
  for (const int fd : idle) {
    Close(fd);
  }
  WaitFor(listener_fd_, EPOLLIN);
  sweep_ = EventLoop::TimerId::kNone;
  if (!clients_.empty()) {
    ArmSweep();
  }
}

}  // namespace oakum::agent
