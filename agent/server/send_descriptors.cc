#include "agent/server/send_descriptors.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "agent/server/unix_socket.h"

namespace oakum::agent {

Expected<void> SendWithDescriptors(int socket_fd, std::string_view bytes, std::span<const int> fds,
                                   int flags) {
  if (fds.size() > kMaxDescriptorsPerMessage) {
    return MakeError(ENAMETOOLONG, "too many descriptors for a message");
  }
  iovec data = {const_cast<char*>(bytes.data()), bytes.size()};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * kMaxDescriptorsPerMessage)> control =
      {};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = CMSG_SPACE(fds.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(fds.size_bytes());
    memcpy(CMSG_DATA(header), fds.data(), fds.size_bytes());
  }
  if (sendmsg(socket_fd, &message, flags | MSG_NOSIGNAL) < 0) {
    return ErrnoError("sendmsg");
  }
  return {};
}

}  // namespace oakum::agent
