// A proxy on loopback that does what a test says.
#ifndef OAKUM_TEST_UNIT_AGENT_PROXY_SCRIPTED_PROXY_H_
#define OAKUM_TEST_UNIT_AGENT_PROXY_SCRIPTED_PROXY_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/unique_fd.h"
#include "policy/proxy_url.h"

namespace oakum::agent {

// One connection, seen from the proxy. Blocking, each call bounded by kPatience.
class ProxySide {
 public:
  explicit ProxySide(UniqueFd fd) : fd_(std::move(fd)) {}
  // Exactly that many bytes; fewer when the connection ends.
  [[nodiscard]] std::string Read(size_t size);
  // Up to and including `end`.
  [[nodiscard]] std::string ReadUntil(std::string_view end);
  void Write(std::string_view bytes);
  // Waits until the client closes.
  void AwaitEnd();
  void ShutdownWrite();
  // Ends the connection with a RST.
  void Abort();
  [[nodiscard]] int fd() const { return fd_.get(); }

 private:
  UniqueFd fd_;
};

// Serves one connection after the other with `script`, on a thread of its own. The end of this ends
// the connection and waits for the script.
class ScriptedProxy {
 public:
  explicit ScriptedProxy(std::function<void(ProxySide&)> script);
  ~ScriptedProxy();
  ScriptedProxy(const ScriptedProxy&) = delete;
  ScriptedProxy& operator=(const ScriptedProxy&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }
  [[nodiscard]] size_t connections() const { return connections_.load(); }
  // SCHEME://[USER@]127.0.0.1:PORT
  [[nodiscard]] policy::ProxyUrl Url(const std::string& scheme, const std::string& user = "") const;

 private:
  void Serve();

  const std::function<void(ProxySide&)> script_;
  UniqueFd listener_;
  uint16_t port_ = 0;
  std::atomic<size_t> connections_{0};
  std::mutex mutex_;
  bool stopping_ = false;
  int serving_fd_ = -1;
  std::thread thread_;
};

// A URL of a port of 127.0.0.1 on which nobody listens, for as long as `keep` lives.
[[nodiscard]] policy::ProxyUrl DownUrl(const std::string& scheme, UniqueFd& keep);

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_PROXY_SCRIPTED_PROXY_H_
