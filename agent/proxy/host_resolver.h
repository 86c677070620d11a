// Addresses of proxies that a policy names by host name.
#ifndef OAKUM_AGENT_PROXY_HOST_RESOLVER_H_
#define OAKUM_AGENT_PROXY_HOST_RESOLVER_H_

#include <memory>
#include <string>
#include <vector>

#include "agent/server/event_loop.h"
#include "base/error.h"
#include "base/unique_fd.h"
#include "policy/address.h"

namespace oakum::agent {

// getaddrinfo(3) as the agent's own host resolves, on threads of its own: it waits for as long as
// the name servers take. Answers are kept for kKept, failures for kFailureKept. Thread-safe.
class HostResolver {
 public:
  static constexpr std::chrono::seconds kKept{30};
  static constexpr std::chrono::seconds kFailureKept{1};

  struct Answer {
    std::vector<policy::IpAddress> addresses;  // in the order in which to try them
    std::string error;                         // gai_strerror(3); empty: there are addresses
  };
  // One question: the eventfd becomes readable when answer() is there, possibly at once.
  class Question;
  [[nodiscard]] static int ReadyFd(const Question& question);
  [[nodiscard]] static Answer Take(Question& question);

  HostResolver();
  ~HostResolver();
  HostResolver(const HostResolver&) = delete;
  HostResolver& operator=(const HostResolver&) = delete;

  // Errors: eventfd(2)'s; ENOBUFS when too many questions wait.
  [[nodiscard]] Expected<std::shared_ptr<Question>> Ask(const std::string& host);

 private:
  struct State;
  static void Work(const std::shared_ptr<State>& state);

  // Shared with the threads: one that still waits for a name server outlives the resolver.
  const std::shared_ptr<State> state_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_HOST_RESOLVER_H_
