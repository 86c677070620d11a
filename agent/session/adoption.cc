#include "agent/session/adoption.h"

#include <fcntl.h>

#include <cerrno>
#include <thread>
#include <utility>

#include "base/shortage.h"

namespace oakum::agent {

namespace {

constexpr std::chrono::milliseconds kBetweenTries{20};

// From copies, so that there is another try.
Expected<AdoptedSession> OpenCopy(const KeptItem& item) {
  KeptItem copy{item.name, {}};
  for (const UniqueFd& fd : item.fds) {
    copy.fds.emplace_back(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
    if (!copy.fds.back()) {
      return ErrnoError("copy the descriptors of a kept session");
    }
  }
  return OpenKept(std::move(copy));
}

}  // namespace

bool IsPassing(const Error& error) {
  // pthread_create(3) says EAGAIN for memory, too.
  return error.code == EAGAIN || error.code == ENOMEM || IsShortage(error.code);
}

bool AdoptionPatience::Again(const Error& error) const {
  if (!IsPassing(error) || std::chrono::steady_clock::now() >= until_) {
    return false;
  }
  std::this_thread::sleep_for(kBetweenTries);
  return true;
}

std::list<AdoptedSession> OpenSessions(
    std::vector<KeptItem>& items, const AdoptionPatience& patience,
    const std::function<void(const std::string& name, const Error& error)>& failed) {
  std::list<AdoptedSession> sessions;
  for (KeptItem& item : items) {
    if (!item.name.starts_with(kKeptSessionPrefix)) {
      continue;
    }
    for (;;) {
      auto opened = OpenCopy(item);
      if (opened) {
        sessions.push_back(std::move(*opened));
      } else if (patience.Again(opened.error())) {
        continue;
      } else {
        failed(item.name, opened.error());
      }
      break;
    }
    item.fds.clear();
  }
  sessions.sort([](const AdoptedSession& one, const AdoptedSession& other) {
    return one.state.attached_ns < other.state.attached_ns;
  });
  return sessions;
}

}  // namespace oakum::agent
