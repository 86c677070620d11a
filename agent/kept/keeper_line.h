// What an agent says to whoever keeps for it.
#ifndef OAKUM_AGENT_KEPT_KEEPER_LINE_H_
#define OAKUM_AGENT_KEPT_KEEPER_LINE_H_

#include <deque>
#include <mutex>
#include <span>
#include <string>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// A connection to a keeper that serves this agent, for FdStore. Thread-safe; waits a tenth of a
// second at most.
class KeeperLine {
 public:
  explicit KeeperLine(UniqueFd socket) : socket_(std::move(socket)) {}

  // As in FdStore. Errors: those of sendmsg(2).
  [[nodiscard]] Expected<void> Keep(const std::string& name, std::span<const int> fds);
  [[nodiscard]] Expected<void> TryKeep(const std::string& name, std::span<const int> fds);
  void Forget(const std::string& name);
  [[nodiscard]] int fd() const;
  // Another keeper, who keeps nothing yet.
  void Reset(UniqueFd socket);

 private:
  // Of what is to be forgotten, as much as the keeper takes.
  void SayTheRest();

  mutable std::mutex mutex_;
  UniqueFd socket_;
  std::deque<std::string> unsaid_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_KEPT_KEEPER_LINE_H_
