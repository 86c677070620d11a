#include "agent/dns/udp_forwarder.h"

#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

#include "agent/dns/message.h"
#include "agent/dns/tcp_client.h"
#include "agent/proxy/proxy_socket.h"

namespace oakum::agent::dns {

namespace {

ProxyFailure Failure(const std::string& server, int error) {
  return {.errno_value = error,
          .text = server + ": " + std::generic_category().message(error),
          .destination = false};
}

// 0 or what went wrong. `query` goes with another id.
int SendTo(int socket_fd, const policy::Endpoint& server, const std::string& query, uint16_t id) {
  const SockaddrCopy address = InetSockaddr(server);
  if (connect(socket_fd, reinterpret_cast<const sockaddr*>(&address.storage), address.length) !=
      0) {
    return errno;
  }
  std::string bytes = query;
  WriteId(bytes, id);
  return send(socket_fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? errno : 0;
}

}  // namespace

UdpForwarder::~UdpForwarder() {
  while (!asked_.empty()) {
    Forget(asked_.begin()->first);
  }
}

uint64_t UdpForwarder::Ask(std::string query, const policy::Endpoint& server,
                           const std::function<UniqueFd(int domain, int type)>& make_socket,
                           Done done) {
  if (asked_.size() >= kMaxQueries) {
    return 0;
  }
  std::optional<RelaySlot> slot = take_slot_ ? take_slot_() : RelaySlot();
  if (!slot) {
    return 0;
  }
  const uint64_t number = ++last_;
  UniqueFd socket = make_socket(server.ip.IsV4() ? AF_INET : AF_INET6, SOCK_DGRAM);
  int error = socket ? 0 : errno;
  Asked asked{.slot = std::move(*slot),
              .socket = std::move(socket),
              .query = std::move(query),
              .id = RandomId(),
              .server = fmt::format("{} port {}", server.ip.ToString(), server.port),
              .done = std::move(done)};
  if (error == 0) {
    error = SendTo(asked.socket.get(), server, asked.query, asked.id);
  }
  if (error == 0 &&
      !loop_.Add(asked.socket.get(), EPOLLIN, [this, number](uint32_t) { Receive(number); })) {
    error = ENOMEM;
  }
  if (error != 0) {
    asked.socket.Reset();
    asked.timer = loop_.AddTimer({}, [this, number, error] {
      Finish(number, std::unexpected(Failure(asked_.at(number).server, error)));
    });
  }
  asked_.emplace(number, std::move(asked));
  return number;
}

void UdpForwarder::Forget(uint64_t number) {
  const auto found = asked_.find(number);
  if (found == asked_.end()) {
    return;
  }
  loop_.RemoveTimer(found->second.timer);
  if (found->second.socket) {
    loop_.Remove(found->second.socket.get());
  }
  asked_.erase(found);
}

void UdpForwarder::Receive(uint64_t number) {
  const auto found = asked_.find(number);
  if (found == asked_.end()) {
    return;
  }
  Asked& asked = found->second;
  std::array<char, kMaxMessage> buffer;
  const ssize_t got = recv(asked.socket.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (got < 0) {
    if (errno != EAGAIN && errno != EINTR) {
      const int error = errno;
      Finish(number, std::unexpected(Failure(asked.server, error)));
    }
    return;
  }
  std::string answer(buffer.data(), static_cast<size_t>(got));
  if (answer.size() < kHeaderSize || ReadId(answer) != asked.id || !Answers(answer, asked.query)) {
    if (++asked.strays > kMaxStrays) {
      Finish(number, std::unexpected(Failure(asked.server, EPROTO)));
    }
    return;
  }
  WriteId(answer, ReadId(asked.query));
  Finish(number, std::move(answer));
}

void UdpForwarder::Finish(uint64_t number, std::expected<std::string, ProxyFailure> answer) {
  const auto found = asked_.find(number);
  if (found == asked_.end()) {
    return;
  }
  const Done done = std::move(found->second.done);
  Forget(number);
  done(std::move(answer));
}

}  // namespace oakum::agent::dns
