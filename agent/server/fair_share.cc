#include "agent/server/fair_share.h"

#include <cstddef>
#include <map>
#include <tuple>

namespace oakum::agent {

std::optional<int> PlaceFor(const Peer& newcomer, std::span<const Place> taken) {
  std::map<uid_t, size_t> of_user;
  std::map<std::pair<uid_t, pid_t>, size_t> of_process;
  for (const Place& place : taken) {
    ++of_user[place.peer.uid];
    ++of_process[{place.peer.uid, place.peer.pid}];
  }
  uid_t user = newcomer.uid;
  size_t most = of_user[user];
  for (const auto& [uid, count] : of_user) {
    if (count > most) {
      std::tie(user, most) = std::tuple(uid, count);
    }
  }
  std::optional<pid_t> process;
  most = user == newcomer.uid ? of_process[{user, newcomer.pid}] + 1 : 0;
  for (const auto& [key, count] : of_process) {
    if (key.first == user && count > most) {
      process = key.second;
      most = count;
    }
  }
  const Place* oldest = nullptr;
  for (const Place& place : taken) {
    if (process && place.peer.uid == user && place.peer.pid == *process &&
        (oldest == nullptr || place.progress < oldest->progress)) {
      oldest = &place;
    }
  }
  return oldest != nullptr ? std::optional(oldest->fd) : std::nullopt;
}

}  // namespace oakum::agent
