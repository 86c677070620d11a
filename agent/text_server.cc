#include "agent/text_server.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>
#include <vector>

#include "agent/unix_socket.h"

namespace oakum::agent {

namespace {

constexpr auto kSweepInterval = std::chrono::seconds(1);

}  // namespace

Expected<std::unique_ptr<TextServer>> TextServer::Create(EventLoop& loop, int listener_fd,
                                                         TextServerOptions options, Handler handler,
                                                         const Log& log) {
  std::unique_ptr<TextServer> server(
      new TextServer(loop, listener_fd, std::move(options), std::move(handler), log));
  auto added = loop.Add(listener_fd, EPOLLIN, [raw = server.get()](uint32_t) { raw->AcceptAll(); });
  if (!added) {
    return std::unexpected(std::move(added.error()));
  }
  return server;
}

TextServer::TextServer(EventLoop& loop, int listener_fd, TextServerOptions options, Handler handler,
                       const Log& log)
    : loop_(loop),
      listener_fd_(listener_fd),
      options_(std::move(options)),
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
  for (;;) {
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
    if (clients_.size() >= options_.max_clients) {
      continue;  // closes it
    }
    const int fd = socket->get();
    if (loop_.Add(fd, EPOLLIN, [this, fd](uint32_t events) { Handle(fd, events); })) {
      Client& client = clients_[fd];
      client.socket = std::move(*socket);
      client.progress = EventLoop::Clock::now();
    }
  }
}

void TextServer::Handle(int fd, uint32_t events) {
  Client& client = clients_.at(fd);
  if ((events & (EPOLLERR | EPOLLHUP)) != 0 && (events & EPOLLIN) == 0) {
    Close(fd);
    return;
  }
  if (client.out.empty() && !Read(client)) {
    Close(fd);
    return;
  }
  Answer(client);
  if (!Write(client)) {
    Close(fd);
    return;
  }
  WaitFor(fd, client.out.empty() ? EPOLLIN : EPOLLOUT);
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
    Reply reply = handler_(std::string_view(client.in).substr(0, end));
    client.in.erase(0, end + options_.terminator.size());
    client.out = std::move(reply.text);
    client.close = reply.close;
  }
}

bool TextServer::Write(Client& client) {
  while (!client.out.empty()) {
    const ssize_t put = send(client.socket.get(), client.out.data(), client.out.size(),
                             MSG_NOSIGNAL | MSG_DONTWAIT);
    if (put < 0) {
      return errno == EAGAIN || errno == EINTR;
    }
    client.progress = EventLoop::Clock::now();
    client.out.erase(0, static_cast<size_t>(put));
    Answer(client);
  }
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
