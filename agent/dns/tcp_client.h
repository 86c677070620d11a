// DNS over TCP as a client (RFC 7766): one server, one connection at a time, any number of queries
// under way on it.
#ifndef OAKUM_AGENT_DNS_TCP_CLIENT_H_
#define OAKUM_AGENT_DNS_TCP_CLIENT_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/proxy/dial.h"
#include "agent/server/event_loop.h"

namespace oakum::agent::dns {

class TcpClient : public std::enable_shared_from_this<TcpClient> {
 public:
  // The answer with the query's own id, or what went wrong on the way to the server.
  using Answer = std::expected<std::string, ProxyFailure>;
  using Done = std::function<void(Answer)>;
  // Starts to connect; what it returns gives up when it is destroyed (Dial).
  using Open = std::function<std::unique_ptr<Dial>(std::function<void(DialResult)>)>;

  static constexpr size_t kMaxQueries = 1024;       // without an answer
  static constexpr size_t kMaxStrays = 256;         // answers of a connection that nobody asked for
  static constexpr std::chrono::seconds kIdle{10};  // without an answer, or without a question
  // A proxy may need longer than those who ask wait (a circuit of Tor's); the next one is served.
  static constexpr std::chrono::seconds kConnecting{60};

  // `server` is whom a failure names.
  [[nodiscard]] static std::shared_ptr<TcpClient> Create(EventLoop& loop, std::string server,
                                                         Open open);
  ~TcpClient();
  TcpClient(const TcpClient&) = delete;
  TcpClient& operator=(const TcpClient&) = delete;

  // `query` is one that ReadQuery has read. `done` is called at most once, never from inside, and
  // not any more after the client was destroyed, nor for a query that went without an answer for
  // kIdle when there are too many. A connection that has served before and then
  // closes was idle for too long in the server's eyes: what it left unanswered is asked again on a
  // new one, once.
  void Ask(std::string query, Done done);
  // Whether it has neither a connection nor a question.
  [[nodiscard]] bool unused() const { return queries_.empty() && !dial_ && events_ == 0; }

 private:
  struct Asked {
    std::string query;
    Done done;
    EventLoop::Clock::time_point since;
    bool again = false;  // asked for the second time
  };

  TcpClient(EventLoop& loop, std::string server, Open open);

  void DropOld();
  void Connect();
  void Opened(DialResult result);
  void Handle();
  // False when the connection is to be given up.
  [[nodiscard]] bool Read();
  [[nodiscard]] bool TakeAnswers();
  [[nodiscard]] bool Write();
  void Take(std::string answer);
  void Send(uint16_t id, Asked& asked);
  void Lost(const std::string& why, int error);
  void Fail(const ProxyFailure& failure);
  void Disconnect();
  void ArmTimer();
  void Expire();
  [[nodiscard]] ProxyFailure Failure(const std::string& why, int error) const;

  EventLoop& loop_;
  const std::string server_;
  const Open open_;
  std::unique_ptr<Dial> dial_;  // while connecting
  ProxyStream stream_;
  uint32_t events_ = 0;  // waited for on the stream; 0: not connected
  EventLoop::TimerId timer_ = EventLoop::TimerId::kNone;
  std::unordered_map<uint16_t, Asked> queries_;  // by the id that the server sees
  std::string in_;
  std::string out_;
  bool served_ = false;  // this connection has answered
  size_t strays_ = 0;
};

// A plain TCP connection, made with a socket of `make_socket`.
[[nodiscard]] std::unique_ptr<Dial> ConnectDirectly(
    EventLoop& loop, const policy::Endpoint& server,
    const std::function<UniqueFd(int domain, int type)>& make_socket,
    std::function<void(DialResult)> done);

// A number that nobody can guess.
[[nodiscard]] uint16_t RandomId();

// Whether `answer` is one to `query`: the question's name in any case, type and class; an error may
// come without a question.
[[nodiscard]] bool Answers(std::string_view answer, std::string_view query);

}  // namespace oakum::agent::dns

#endif  // OAKUM_AGENT_DNS_TCP_CLIENT_H_
