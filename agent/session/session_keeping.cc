#include "agent/session/session_keeping.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <utility>

#include "agent/dns/names_file.h"
#include "agent/session/pidfd.h"

namespace oakum::agent {

namespace {

bool IsFileInMemory(int fd) { return fcntl(fd, F_GET_SEALS) >= 0; }

bool IsDirectory(int fd) {
  struct stat status = {};
  return fstat(fd, &status) == 0 && S_ISDIR(status.st_mode);
}

bool IsSession(const KeptItem& item) { return item.name.starts_with(kKeptSessionPrefix); }

}  // namespace

Expected<KeptSession> MakeKept(KeptState state, const std::optional<ContainerOrigin>& origin) {
  uint64_t chance = 0;
  if (getrandom(&chance, sizeof chance, 0) != sizeof chance) {
    return ErrnoError("getrandom");
  }
  if (origin) {
    state.root_path = origin->root_path;
    state.mounts = origin->mounts;
  }
  auto journal = Journal::Create(EncodeKeptState(state));
  if (!journal) {
    return std::unexpected(std::move(journal.error()));
  }
  std::string name = fmt::format("{}{:016x}", kKeptSessionPrefix, chance);
  return KeptSession{std::move(name), std::move(*journal), state.attached_ns};
}

Expected<void> HandOver(FdStore& store, const KeptSession& kept, int listener_fd, int init_pidfd,
                        int root_fd, int names_fd) {
  std::vector<int> fds = {listener_fd, kept.journal.fd()};
  for (const int fd : {init_pidfd, root_fd, names_fd}) {
    if (fd >= 0) {
      fds.push_back(fd);
    }
  }
  return store.Keep(kept.name, fds);
}

Expected<AdoptedSession> OpenKept(KeptItem item) {
  UniqueFd listener;
  UniqueFd file;
  UniqueFd pidfd;
  UniqueFd root;
  UniqueFd names;
  for (UniqueFd& fd : item.fds) {
    UniqueFd& place = NamesFile::IsOne(fd.get())       ? names
                      : IsFileInMemory(fd.get())       ? file
                      : NotifyFd::IsListener(fd.get()) ? listener
                      : IsDirectory(fd.get())          ? root
                                                       : pidfd;
    place = std::move(fd);
  }
  if (!listener || !file) {
    return MakeError(EINVAL, "a descriptor is missing");
  }
  auto journal = Journal::Open(std::move(file));
  if (!journal) {
    return std::unexpected(std::move(journal.error()));
  }
  const auto text = journal->State();
  if (!text) {
    return std::unexpected(text.error());
  }
  auto state = DecodeKeptState(*text);
  if (!state) {
    return std::unexpected(std::move(state.error()));
  }
  const auto noted = journal->Noted();
  auto remembered = noted ? DecodeRemembered(*noted)
                          : Expected<std::vector<RememberedFile>>(std::unexpected(noted.error()));
  if (!remembered) {
    return std::unexpected(std::move(remembered.error()));
  }
  auto notify = NotifyFd::Create(std::move(listener));
  if (!notify) {
    return std::unexpected(std::move(notify.error()));
  }
  // The number may be somebody else's by now, or be another one here.
  state->container.init_pid = pidfd ? PidOf(pidfd.get()) : 0;
  const int64_t attached_ns = state->attached_ns;
  ContainerOrigin origin{std::move(root), state->root_path, state->mounts, std::move(*remembered)};
  return AdoptedSession{
      std::move(*notify), KeptSession{std::move(item.name), std::move(*journal), attached_ns},
      std::move(*state),  std::move(pidfd),
      std::move(origin),  std::move(names)};
}

Expected<void> CheckVersions(const std::vector<KeptItem>& items) {
  for (const KeptItem& item : items) {
    for (const UniqueFd& fd : item.fds) {
      if (!IsSession(item) || !IsFileInMemory(fd.get())) {
        continue;
      }
      if (NamesFile::IsOne(fd.get())) {
        const auto opened = NamesFile::Open(UniqueFd(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0)));
        if (!opened && opened.error().code == ENOTSUP) {
          return std::unexpected(opened.error());
        }
        continue;
      }
      if (auto known = Journal::Check(fd.get()); !known && known.error().code == ENOTSUP) {
        return known;
      }
    }
  }
  return {};
}

}  // namespace oakum::agent
