#include "agent/calls/control_messages.h"

#include <fmt/format.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <sstream>

#include "agent/caller/identity.h"
#include "base/file.h"

namespace oakum::agent {

namespace {

constexpr size_t kMaxRights = 253;  // SCM_MAX_FD, unix(7)
constexpr int kLoopbackIndex = 1;   // LOOPBACK_IFINDEX, include/net/flow.h

// Types of RFC 2292 (linux/in6.h), which netinet/in.h has under other names.
constexpr int kIpv6Pktinfo2292 = 2;
constexpr int kIpv6Hopopts2292 = 3;
constexpr int kIpv6Dstopts2292 = 4;
constexpr int kIpv6Rthdr2292 = 5;

// The lowest number of a /proc/PID/uid_map line that holds `id`, translated: from the thread's user
// namespace to the agent's (user_namespaces(7)). Empty when it is not mapped.
std::optional<uint32_t> MapId(pid_t tid, const char* map, uint32_t id) {
  const auto text = ReadFile(fmt::format("/proc/{}/{}", tid, map), size_t{64} * 1024);
  if (!text) {
    return std::nullopt;
  }
  std::istringstream lines(*text);
  uint64_t inside = 0;
  uint64_t outside = 0;
  uint64_t count = 0;
  while (lines >> inside >> outside >> count) {
    if (id >= inside && id - inside < count) {
      return static_cast<uint32_t>(outside + (id - inside));
    }
  }
  return std::nullopt;
}

// The thread group's id in its own pid namespace: the last number of NStgid (proc_pid_status(5)).
pid_t OwnTgid(pid_t tid) {
  const auto text = ReadFile(fmt::format("/proc/{}/status", tid), size_t{256} * 1024);
  if (!text) {
    return 0;
  }
  const size_t start = text->find("\nNStgid:");
  const size_t end = start == std::string::npos ? start : text->find('\n', start + 1);
  if (end == std::string::npos) {
    return 0;
  }
  const size_t last = text->find_last_of("\t ", end);
  pid_t pid = 0;
  std::from_chars(text->data() + last + 1, text->data() + end, pid);
  return pid;
}

bool Holds(const TaskStatus& status, int capability) {
  return (status.effective_capabilities & CapabilityBit(capability)) != 0;
}

// scm_check_creds(), net/core/scm.c, for the container's thread.
int TranslateCredentials(pid_t tid, const TaskStatus& status, ucred& credentials) {
  const auto uid = MapId(tid, "uid_map", credentials.uid);
  const auto gid = MapId(tid, "gid_map", credentials.gid);
  if (!uid || !gid) {
    return EINVAL;
  }
  const bool uid_ok = *uid == status.ruid || *uid == status.euid || *uid == status.fsuid ||
                      Holds(status, CAP_SETUID);
  const bool gid_ok = *gid == status.rgid || *gid == status.egid || *gid == status.fsgid ||
                      Holds(status, CAP_SETGID);
  // Another process's id would need CAP_SYS_ADMIN and a translation that cannot be made soundly.
  if (!uid_ok || !gid_ok || credentials.pid != OwnTgid(tid)) {
    return EPERM;
  }
  credentials = {status.tgid, *uid, *gid};
  return 0;
}

void Append(std::vector<char>& bytes, const cmsghdr& header, const void* data, size_t size) {
  const size_t start = bytes.size();
  bytes.resize(start + CMSG_SPACE(size));
  cmsghdr copy = header;
  copy.cmsg_len = CMSG_LEN(size);
  memcpy(bytes.data() + start, &copy, sizeof copy);
  if (size > 0) {
    memcpy(bytes.data() + start + CMSG_LEN(0), data, size);
  }
}

int DuplicateRights(const CallContext& context, pid_t tid, const char* data, size_t size,
                    std::vector<UniqueFd>& out, std::vector<int>& numbers) {
  const size_t count = size / sizeof(int);
  if (count > kMaxRights) {
    return EINVAL;
  }
  for (size_t i = 0; i < count; ++i) {
    int number = -1;
    memcpy(&number, data + i * sizeof number, sizeof number);
    UniqueFd duplicate;
    if (const int error = context.descriptors.Get(tid, number, duplicate); error != 0) {
      return error == ESRCH ? EBADF : error;
    }
    numbers.push_back(duplicate.get());
    out.push_back(std::move(duplicate));
  }
  return 0;
}

bool NamesRoute(const cmsghdr& header) {
  if (header.cmsg_level == IPPROTO_IP) {
    return header.cmsg_type == IP_RETOPTS;
  }
  if (header.cmsg_level != IPPROTO_IPV6) {
    return false;
  }
  switch (header.cmsg_type) {
    case IPV6_HOPOPTS:
    case kIpv6Hopopts2292:
    case IPV6_DSTOPTS:
    case kIpv6Dstopts2292:
    case IPV6_RTHDRDSTOPTS:
    case IPV6_RTHDR:
    case kIpv6Rthdr2292:
      return true;
    default:
      return false;
  }
}

bool NamesInterface(const cmsghdr& header, const char* data, size_t size) {
  size_t offset = 0;
  if (header.cmsg_level == IPPROTO_IP && header.cmsg_type == IP_PKTINFO) {
    offset = offsetof(in_pktinfo, ipi_ifindex);
  } else if (header.cmsg_level == IPPROTO_IPV6 &&
             (header.cmsg_type == IPV6_PKTINFO || header.cmsg_type == kIpv6Pktinfo2292)) {
    offset = offsetof(in6_pktinfo, ipi6_ifindex);
  } else {
    return false;
  }
  int index = 0;
  if (size < offset + sizeof index) {
    return false;  // EINVAL
  }
  memcpy(&index, data + offset, sizeof index);
  return index != 0 && index != kLoopbackIndex;
}

}  // namespace

// Internet sockets have no records that mean something else here: they are sent as they are, also
// malformed, for which the kernel has its own order of errors and sends nothing (CMSG_OK in
// __ip_cmsg_send(), ip6_datagram_send_ctl(), sock_cmsg_send()).
void ScanInternet(const std::vector<char>& original, ControlMessages& out) {
  out.bytes = original;
  size_t at = 0;
  while (original.size() - at >= sizeof(cmsghdr)) {
    cmsghdr header = {};
    memcpy(&header, original.data() + at, sizeof header);
    if (header.cmsg_len < sizeof header || header.cmsg_len > original.size() - at) {
      return;
    }
    out.routes = out.routes || NamesRoute(header);
    out.names_interface =
        out.names_interface ||
        NamesInterface(header, original.data() + at + CMSG_LEN(0), header.cmsg_len - CMSG_LEN(0));
    const size_t step = CMSG_ALIGN(header.cmsg_len);
    if (step >= original.size() - at) {
      return;
    }
    at += step;
  }
}

int TranslateControl(const CallContext& context, pid_t tid, int domain,
                     const std::vector<char>& original, ControlMessages& out) {
  if (domain == AF_INET || domain == AF_INET6) {
    ScanInternet(original, out);
    return 0;
  }
  const bool is_unix = domain == AF_UNIX;
  const bool may_set_credentials = is_unix && HasPermittedCapabilities(kCredentialCapabilities);
  bool has_credentials = false;
  size_t at = 0;
  // CMSG_OK and CMSG_NXTHDR of the kernel (include/linux/socket.h).
  while (original.size() - at >= sizeof(cmsghdr)) {
    cmsghdr header = {};
    memcpy(&header, original.data() + at, sizeof header);
    if (header.cmsg_len < sizeof header || header.cmsg_len > original.size() - at) {
      return EINVAL;
    }
    const char* data = original.data() + at + CMSG_LEN(0);
    const size_t size = header.cmsg_len - CMSG_LEN(0);
    if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_RIGHTS) {
      if (!is_unix) {
        return EINVAL;
      }
      std::vector<int> numbers;
      if (const int error = DuplicateRights(context, tid, data, size, out.rights, numbers);
          error != 0) {
        return error;
      }
      Append(out.bytes, header, numbers.data(), numbers.size() * sizeof(int));
    } else if (header.cmsg_level == SOL_SOCKET && header.cmsg_type == SCM_CREDENTIALS) {
      ucred credentials = {};
      if (size != sizeof credentials) {
        return EINVAL;
      }
      if (is_unix) {
        memcpy(&credentials, data, sizeof credentials);
        const auto status = ReadTaskStatus(tid);
        if (!status) {
          return EPERM;
        }
        if (const int error = TranslateCredentials(tid, *status, credentials); error != 0) {
          return error;
        }
        if (may_set_credentials) {
          Append(out.bytes, header, &credentials, sizeof credentials);
        }
        has_credentials = true;
      }
    } else {
      Append(out.bytes, header, data, size);
    }
    const size_t step = CMSG_ALIGN(header.cmsg_len);
    if (step >= original.size() - at) {
      break;
    }
    at += step;
  }
  if (may_set_credentials && !has_credentials) {
    // scm_send() takes the real ids of whoever sends.
    auto ids = context.descriptors.IdsOf(tid);
    if (!ids) {
      const auto status = ReadTaskStatus(tid);
      if (!status) {
        return EPERM;
      }
      ids = {status->tgid, status->ruid, status->rgid};
    }
    const ucred credentials = {ids->tgid, ids->uid, ids->gid};
    cmsghdr header = {};
    header.cmsg_level = SOL_SOCKET;
    header.cmsg_type = SCM_CREDENTIALS;
    Append(out.bytes, header, &credentials, sizeof credentials);
  }
  return 0;
}

void PinToLoopback(ControlMessages& control) {
  control.bytes.resize(CMSG_ALIGN(control.bytes.size()));
  in6_pktinfo info = {};
  info.ipi6_ifindex = kLoopbackIndex;
  cmsghdr header = {};
  header.cmsg_level = IPPROTO_IPV6;
  header.cmsg_type = IPV6_PKTINFO;
  Append(control.bytes, header, &info, sizeof info);
}

}  // namespace oakum::agent
