#include "agent/calls/inherited_sockets.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <optional>

#include "agent/caller/container_view.h"
#include "agent/caller/sockaddr.h"
#include "agent/caller/task.h"
#include "agent/calls/calls.h"
#include "base/file.h"

namespace oakum::agent {

namespace {

constexpr size_t kMaxProcFile = size_t{64} * 1024;
constexpr size_t kMaxSockets = 256;

// Whether a runtime's own code still runs in the process. runc calls it "runc:[2:INIT]" until
// execve(2) gives it the program's name; others fork it, and the kernel marks a process that has
// not executed anything since (PF_FORKNOEXEC, field 9 of proc_pid_stat(5)).
bool IsBeforeProgram(pid_t pid) {
  constexpr unsigned long kForkNoExec = 0x40;
  const auto text = ReadFile(fmt::format("/proc/{}/stat", pid), kMaxProcFile);
  const size_t name_end = text ? text->rfind(") ") : std::string::npos;
  if (name_end == std::string::npos) {
    return false;
  }
  if (text->find("(runc:[") == text->find('(')) {
    return true;
  }
  // After the name: state, ppid, pgrp, session, tty_nr, tpgid, flags.
  size_t field = name_end + 2;
  for (int skipped = 0; skipped < 6 && field != std::string::npos; ++skipped) {
    field = text->find(' ', field);
    field += field != std::string::npos ? 1 : 0;
  }
  return field != std::string::npos &&
         (strtoul(text->c_str() + field, nullptr, 10) & kForkNoExec) != 0;
}

bool IsCloseOnExec(pid_t pid, int number) {
  const auto text = ReadFile(fmt::format("/proc/{}/fdinfo/{}", pid, number), kMaxProcFile);
  constexpr std::string_view kKey = "flags:\t";
  const size_t at = text ? text->find(kKey) : std::string::npos;
  return at != std::string::npos &&
         (strtoul(text->c_str() + at + kKey.size(), nullptr, 8) & O_CLOEXEC) != 0;
}

std::string UnixName(const SockaddrCopy& address) {
  const auto* un = reinterpret_cast<const sockaddr_un*>(&address.storage);
  if (address.length <= offsetof(sockaddr_un, sun_path)) {
    return {};
  }
  std::string name(un->sun_path, address.length - offsetof(sockaddr_un, sun_path));
  if (name.front() == '\0') {
    name.front() = '@';
  } else {
    name.resize(name.find('\0') != std::string::npos ? name.find('\0') : name.size());
  }
  return name;
}

bool GetOption(int fd, int option, int& out) {
  socklen_t length = sizeof out;
  return getsockopt(fd, SOL_SOCKET, option, &out, &length) == 0;
}

std::optional<InheritedSocket> Describe(int fd, int number) {
  InheritedSocket found;
  found.number = number;
  if (!GetOption(fd, SO_DOMAIN, found.domain) || !GetOption(fd, SO_TYPE, found.type) ||
      !GetOption(fd, SO_PROTOCOL, found.protocol)) {
    return std::nullopt;
  }
  int listening = 0;
  found.listening = GetOption(fd, SO_ACCEPTCONN, listening) && listening != 0;
  const auto read = [&](auto get, policy::Endpoint& endpoint, std::string& name) {
    SockaddrCopy address;
    address.length = sizeof address.storage;
    if (get(fd, reinterpret_cast<sockaddr*>(&address.storage), &address.length) != 0) {
      return false;
    }
    if (found.is_inet()) {
      endpoint = ReadEndpoint(address);
    } else if (found.domain == AF_UNIX) {
      name = UnixName(address);
    }
    return true;
  };
  read(getsockname, found.local, found.unix_local);
  found.connected = read(getpeername, found.peer, found.unix_peer);
  return found;
}

}  // namespace

bool InheritedSocket::is_inet() const { return domain == AF_INET || domain == AF_INET6; }

policy::Transport InheritedSocket::transport() const {
  PinnedSocket socket;
  socket.protocol = protocol;
  return socket.transport();
}

std::vector<InheritedSocket> FindInheritedSockets(pid_t pid) {
  std::vector<InheritedSocket> sockets;
  DescriptorSource source;
  const std::string directory = fmt::format("/proc/{}/fd", pid);
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(opendir(directory.c_str()), closedir);
  if (entries == nullptr) {
    return sockets;
  }
  while (const dirent* entry = readdir(entries.get())) {
    const std::string_view name(entry->d_name);
    int number = -1;
    if (std::from_chars(name.data(), name.data() + name.size(), number).ec != std::errc() ||
        !ReadLinkTarget(fmt::format("{}/{}", directory, name)).starts_with("socket:") ||
        IsCloseOnExec(pid, number)) {
      continue;
    }
    UniqueFd fd;
    if (sockets.size() >= kMaxSockets || source.Get(pid, number, fd) != 0) {
      continue;
    }
    auto found = Describe(fd.get(), number);
    // A runtime that has not finished yet has socket pairs to itself, which have no name.
    if (found && (found->domain != AF_UNIX || found->has_name())) {
      sockets.push_back(std::move(*found));
    }
  }
  if (!IsBeforeProgram(pid)) {
    // Its calls wait for this session: it cannot have connected anything, nor made such sockets.
    std::erase_if(sockets, [](const InheritedSocket& socket) {
      return IsPlainSocket(socket.domain, socket.type, socket.protocol) &&
             (!socket.is_inet() || !socket.connected);
    });
  }
  return sockets;
}

}  // namespace oakum::agent
