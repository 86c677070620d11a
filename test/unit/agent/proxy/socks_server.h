// A SOCKS5 proxy (RFC 1928) in the test process that serves many connections at once.
#ifndef OAKUM_TEST_UNIT_AGENT_PROXY_SOCKS_SERVER_H_
#define OAKUM_TEST_UNIT_AGENT_PROXY_SOCKS_SERVER_H_

#include <atomic>
#include <functional>
#include <list>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "scripted_proxy.h"

namespace oakum::agent {

class SocksServer {
 public:
  // What it is to do when a request has come: `target` is "name:port" or "address:port". The
  // reply's code (RFC 1928 section 6), or kClose to close without one.
  using Decide = std::function<int(const std::string& target)>;
  static constexpr int kClose = -1;
  // The rest of a connection that was granted.
  using Serve = std::function<void(ProxySide&)>;

  SocksServer(Decide decide, Serve serve);
  explicit SocksServer(Serve serve)
      : SocksServer([](const std::string&) { return 0; }, std::move(serve)) {}
  ~SocksServer();
  SocksServer(const SocksServer&) = delete;
  SocksServer& operator=(const SocksServer&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }
  // Of all requests so far, in the order in which they came.
  [[nodiscard]] std::vector<std::string> targets() const;
  // How many connections have come, with or without a request.
  [[nodiscard]] size_t accepted() const { return accepted_.load(); }
  // "user:password" of those that authenticated.
  [[nodiscard]] std::vector<std::string> users() const;

 private:
  void Accept();
  void Handle(ProxySide& side);

  const Decide decide_;
  const Serve serve_;
  UniqueFd listener_;
  uint16_t port_ = 0;
  std::atomic<size_t> accepted_{0};
  mutable std::mutex mutex_;
  std::vector<std::string> targets_;
  std::vector<std::string> users_;
  std::list<std::thread> connections_;
  std::thread thread_;
};

// Sends back whatever comes.
void Echo(ProxySide& side);

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_PROXY_SOCKS_SERVER_H_
