// Short questions and answers over a stream socket: the control socket and the metrics page.
#ifndef OAKUM_AGENT_SERVER_TEXT_SERVER_H_
#define OAKUM_AGENT_SERVER_TEXT_SERVER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "agent/server/event_loop.h"
#include "agent/server/unix_socket.h"
#include "base/error.h"
#include "base/log.h"
#include "base/unique_fd.h"

namespace oakum::agent {

struct TextServerOptions {
  std::string name;        // for the log
  std::string terminator;  // ends a request: "\n", "\r\n\r\n"
  std::string too_long;    // what a request beyond `max_request` is answered
  size_t max_clients = 32;
  size_t max_request = 4'096;
  // Bytes of answers that have not been read yet, in all; beyond it who has read nothing for the
  // longest time is closed.
  size_t max_unread = size_t{64} << 20;
  EventLoop::Clock::duration max_idle = std::chrono::seconds(10);  // without progress
};

// Answers requests one after the other on the event loop's thread. A client that says nothing, too
// much, or does not read its answer is closed; none delays another. When there are too many,
// PlaceFor says who goes.
class TextServer {
 public:
  struct Reply {
    std::string text;
    bool close = false;  // after this answer
  };
  // The request comes without its terminator.
  using Handler = std::function<Reply(std::string_view request, const Peer& client)>;
  // Who a new client is; nothing: it is closed.
  using Admit = std::function<std::optional<Peer>(int socket_fd)>;

  // Serves connections to `listener_fd`, a listening non-blocking socket that the caller keeps.
  // `loop` and `log` outlive the server. Errors: epoll_ctl(2)'s.
  [[nodiscard]] static Expected<std::unique_ptr<TextServer>> Create(EventLoop& loop,
                                                                    int listener_fd,
                                                                    TextServerOptions options,
                                                                    Admit admit, Handler handler,
                                                                    const Log& log);
  ~TextServer();
  TextServer(const TextServer&) = delete;
  TextServer& operator=(const TextServer&) = delete;

  [[nodiscard]] size_t clients() const { return clients_.size(); }

 private:
  struct Client {
    UniqueFd socket;
    Peer peer;
    std::string in;
    std::string out;
    size_t sent = 0;  // of `out`
    bool close = false;
    EventLoop::Clock::time_point progress;
  };

  TextServer(EventLoop& loop, int listener_fd, TextServerOptions options, Admit admit,
             Handler handler, const Log& log);

  void AcceptAll();
  void Welcome(UniqueFd socket);
  [[nodiscard]] bool MakeRoomFor(const Peer& newcomer);
  [[nodiscard]] bool HasRequest(const Client& client) const;
  void CloseWhoDoNotRead(int but_fd);
  void Handle(int fd, uint32_t events);
  // These return false when the client is to be closed.
  [[nodiscard]] bool Read(Client& client);
  void Answer(Client& client);
  [[nodiscard]] bool Write(Client& client);
  void Close(int fd);
  void WaitFor(int fd, uint32_t events);
  void ArmSweep();
  void Sweep();

  EventLoop& loop_;
  const int listener_fd_;
  const TextServerOptions options_;
  const Admit admit_;
  const Handler handler_;
  const Log& log_;
  std::unordered_map<int, Client> clients_;  // by descriptor
  EventLoop::TimerId sweep_ = EventLoop::TimerId::kNone;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SERVER_TEXT_SERVER_H_
