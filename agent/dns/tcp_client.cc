#include "agent/dns/tcp_client.h"

#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "agent/dns/message.h"
#include "agent/proxy/proxy_socket.h"
#include "agent/proxy/tcp_socket.h"
#include "agent/proxy/tls_stream.h"

namespace oakum::agent::dns {

namespace {

constexpr size_t kReadSize = size_t{16} << 10;

class DirectDial final : public Dial {
 public:
  // `error` is why there is no socket.
  DirectDial(EventLoop& loop, const policy::Endpoint& server, UniqueFd socket, int error,
             std::function<void(DialResult)> done)
      : loop_(loop), socket_(std::move(socket)), done_(std::move(done)) {
    if (error == 0) {
      const SockaddrCopy address = InetSockaddr(server);
      if (connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address.storage),
                  address.length) != 0 &&
          errno != EINPROGRESS) {
        error = errno;
      } else if (!loop_.Add(socket_.get(), EPOLLOUT, [this](uint32_t) { Connected(); })) {
        error = ENOMEM;
      }
    }
    if (error != 0) {
      timer_ = loop_.AddTimer({}, [this, error] { Finish(error); });
    }
  }
  ~DirectDial() override {
    loop_.RemoveTimer(timer_);
    if (socket_) {
      loop_.Remove(socket_.get());
    }
  }
  DirectDial(const DirectDial&) = delete;
  DirectDial& operator=(const DirectDial&) = delete;

 private:
  void Connected() { Finish(TakeSocketError(socket_.get())); }

  // The last thing that it does: `done_` may destroy it.
  void Finish(int error) {
    DialResult result;
    if (socket_) {
      loop_.Remove(socket_.get());
    }
    if (error != 0) {
      result.failure = ProxyFailure{.errno_value = error,
                                    .text = std::generic_category().message(error),
                                    .destination = false};
    } else {
      result.stream.fd = std::move(socket_);
    }
    const auto done = std::move(done_);
    done(std::move(result));
  }

  EventLoop& loop_;
  UniqueFd socket_;
  std::function<void(DialResult)> done_;
  EventLoop::TimerId timer_ = EventLoop::TimerId::kNone;
};

}  // namespace

std::unique_ptr<Dial> ConnectDirectly(
    EventLoop& loop, const policy::Endpoint& server,
    const std::function<UniqueFd(int domain, int type)>& make_socket,
    std::function<void(DialResult)> done) {
  UniqueFd socket = make_socket(server.ip.IsV4() ? AF_INET : AF_INET6, SOCK_STREAM);
  const int error = socket ? 0 : errno;
  return std::make_unique<DirectDial>(loop, server, std::move(socket), error, std::move(done));
}

uint16_t RandomId() {
  uint16_t id = 0;
  // getrandom(2): so few bytes come whole once the pool is ready, and no signal interrupts them.
  while (getrandom(&id, sizeof id, 0) != static_cast<ssize_t>(sizeof id)) {
  }
  return id;
}

bool Answers(std::string_view answer, std::string_view query) {
  const auto asked = ReadQuery(query);
  if (!asked || answer.size() < kHeaderSize) {
    return false;
  }
  // A bare header: FORMERR or NOTIMP of a server that understood no more.
  if (answer.size() == kHeaderSize) {
    return (answer[2] & 0x80) != 0 && (answer[3] & 0xf) != 0 &&
           std::ranges::all_of(answer.substr(4), [](char c) { return c == '\0'; });
  }
  const auto reply = ReadReply(answer);
  if (!reply || reply->question.size() != asked->question.size()) {
    return false;
  }
  // RFC 4343: letters of the name only; type and class are the last four bytes.
  const size_t name_size = asked->question.size() - 4;
  const auto lower = [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  };
  for (size_t i = 0; i < asked->question.size(); ++i) {
    const char a = reply->question[i];
    const char b = asked->question[i];
    if (i < name_size ? lower(a) != lower(b) : a != b) {
      return false;
    }
  }
  return true;
}

std::shared_ptr<TcpClient> TcpClient::Create(EventLoop& loop, std::string server, Open open) {
  return std::shared_ptr<TcpClient>(new TcpClient(loop, std::move(server), std::move(open)));
}

TcpClient::TcpClient(EventLoop& loop, std::string server, Open open)
    : loop_(loop), server_(std::move(server)), open_(std::move(open)) {}

TcpClient::~TcpClient() { Disconnect(); }

void TcpClient::Ask(std::string query, Done done) {
  if (queries_.size() >= kMaxQueries) {
    DropOld();
  }
  if (queries_.size() >= kMaxQueries) {
    return;
  }
  uint16_t id = RandomId();
  while (queries_.contains(id)) {
    ++id;
  }
  if (queries_.empty()) {
    ArmTimer();
  }
  Asked& asked = queries_
                     .emplace(id, Asked{.query = std::move(query),
                                        .done = std::move(done),
                                        .since = EventLoop::Clock::now()})
                     .first->second;
  if (events_ != 0) {
    Send(id, asked);
    // Bytes for a connection that the server has closed: Handle hears of it.
    if (loop_.Modify(stream_.fd.get(), events_ | EPOLLOUT)) {
      events_ |= EPOLLOUT;
    }
  } else if (!dial_) {
    Connect();
  }
}

// What a server has passed over would otherwise stay for as long as it answers others.
void TcpClient::DropOld() {
  const auto old = EventLoop::Clock::now() - kIdle;
  std::erase_if(queries_, [&](const auto& entry) { return entry.second.since < old; });
}

void TcpClient::Connect() {
  // Weak: a dial may report once more while the client is on its way out.
  dial_ = open_([weak = weak_from_this()](DialResult result) {
    if (const auto self = weak.lock()) {
      self->Opened(std::move(result));
    }
  });
}

void TcpClient::Opened(DialResult result) {
  const auto dial = std::move(dial_);  // lives until this returns: it is on the stack
  if (result.failure) {
    Fail(*result.failure);
    return;
  }
  stream_ = std::move(result.stream);
  served_ = false;
  strays_ = 0;
  for (auto& [id, asked] : queries_) {
    Send(id, asked);
  }
  constexpr uint32_t kBoth = EPOLLIN | EPOLLOUT;
  if (!loop_.Add(stream_.fd.get(), kBoth, [weak = weak_from_this()](uint32_t) {
        if (const auto self = weak.lock()) {
          self->Handle();
        }
      })) {
    stream_ = {};
    Fail(Failure("too many connections", ENOMEM));
    return;
  }
  events_ = kBoth;
  ArmTimer();
}

void TcpClient::Send(uint16_t id, Asked& asked) {
  out_.push_back(static_cast<char>(asked.query.size() >> 8));
  out_.push_back(static_cast<char>(asked.query.size() & 0xff));
  out_ += asked.query;
  const size_t at = out_.size() - asked.query.size();
  out_[at] = static_cast<char>(id >> 8);
  out_[at + 1] = static_cast<char>(id & 0xff);
}

void TcpClient::Handle() {
  if (!Read() || events_ == 0) {
    return;
  }
  if (!Write()) {
    return;
  }
  uint32_t wanted = EPOLLIN | (out_.empty() ? 0U : uint32_t{EPOLLOUT});
  if (stream_.tls) {
    wanted |= stream_.tls->wants();
  }
  if (wanted != events_ && loop_.Modify(stream_.fd.get(), wanted)) {
    events_ = wanted;
  }
}

bool TcpClient::Read() {
  std::array<char, kReadSize> buffer;
  do {
    // weak_ptr::lock, up the stack, is no mutex's.
    // NOLINTNEXTLINE(clang-analyzer-unix.BlockInCriticalSection)
    const auto plain = [&] { return recv(stream_.fd.get(), buffer.data(), buffer.size(), 0); };
    const ssize_t got = stream_.tls ? stream_.tls->Read(buffer.data(), buffer.size()) : plain();
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
      return true;
    }
    if (got <= 0) {
      const int error = got < 0 ? errno : ECONNRESET;
      Lost(got < 0 ? std::generic_category().message(error) : "closed the connection", error);
      return false;
    }
    in_.append(buffer.data(), static_cast<size_t>(got));
    if (!TakeAnswers()) {
      return false;
    }
    // What TLS has decrypted makes no descriptor readable; it is one record's at most.
  } while (events_ != 0 && stream_.tls && stream_.tls->has_pending());
  return true;
}

bool TcpClient::TakeAnswers() {
  std::vector<std::string> answers;
  size_t at = 0;
  while (in_.size() - at >= 2) {
    const size_t size = ReadId(std::string_view(in_).substr(at));  // 16 bits all the same
    if (size < kHeaderSize) {
      Lost("sent something else than DNS", EPROTO);
      return false;
    }
    if (in_.size() - at < 2 + size) {
      break;
    }
    answers.push_back(in_.substr(at + 2, size));
    at += 2 + size;
  }
  in_.erase(0, at);
  for (std::string& answer : answers) {
    Take(std::move(answer));
  }
  if (strays_ > kMaxStrays) {
    Lost("sent answers to no question", EPROTO);
    return false;
  }
  return true;
}

void TcpClient::Take(std::string answer) {
  const auto found = queries_.find(ReadId(answer));
  if (found == queries_.end() || !Answers(answer, found->second.query)) {
    ++strays_;
    return;
  }
  served_ = true;
  ArmTimer();
  const Asked asked = std::move(found->second);
  queries_.erase(found);
  WriteId(answer, ReadId(asked.query));
  asked.done(std::move(answer));
}

bool TcpClient::Write() {
  size_t sent = 0;
  while (sent < out_.size()) {
    const char* data = out_.data() + sent;
    const size_t size = out_.size() - sent;
    const ssize_t put = stream_.tls ? stream_.tls->Write(data, size)
                                    : send(stream_.fd.get(), data, size, MSG_NOSIGNAL);
    if (put >= 0) {
      sent += static_cast<size_t>(put);
      continue;
    }
    const int error = errno;
    if (error == EAGAIN) {
      break;
    }
    if (error != EINTR) {
      Lost(std::generic_category().message(error), error);
      return false;
    }
  }
  out_.erase(0, sent);
  return true;
}

void TcpClient::Lost(const std::string& why, int error) {
  const bool again = served_;
  Disconnect();
  if (!again) {
    Fail(Failure(why, error));
    return;
  }
  std::vector<Done> failed;
  for (auto at = queries_.begin(); at != queries_.end();) {
    if (at->second.again) {
      failed.push_back(std::move(at->second.done));
      at = queries_.erase(at);
    } else {
      at->second.again = true;
      ++at;
    }
  }
  if (!queries_.empty()) {
    ArmTimer();
    Connect();
  }
  for (const Done& done : failed) {
    done(std::unexpected(Failure(why, error)));
  }
}

void TcpClient::Fail(const ProxyFailure& failure) {
  Disconnect();
  std::unordered_map<uint16_t, Asked> failed;
  failed.swap(queries_);
  for (const auto& [id, asked] : failed) {
    asked.done(std::unexpected(failure));
  }
}

void TcpClient::Disconnect() {
  loop_.RemoveTimer(timer_);
  timer_ = EventLoop::TimerId::kNone;
  dial_.reset();
  if (events_ != 0) {
    loop_.Remove(stream_.fd.get());
  }
  events_ = 0;
  stream_ = {};
  in_.clear();
  out_.clear();
}

void TcpClient::ArmTimer() {
  loop_.RemoveTimer(timer_);
  timer_ = loop_.AddTimer(events_ == 0 ? kConnecting : kIdle, [weak = weak_from_this()] {
    if (const auto self = weak.lock()) {
      self->Expire();
    }
  });
}

void TcpClient::Expire() {
  timer_ = EventLoop::TimerId::kNone;
  Fail(Failure("did not answer", ETIMEDOUT));
}

ProxyFailure TcpClient::Failure(const std::string& why, int error) const {
  return {.errno_value = error, .text = server_ + ": " + why, .destination = false};
}

}  // namespace oakum::agent::dns
