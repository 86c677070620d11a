// Messages with descriptors (unix(7), SCM_RIGHTS).
#ifndef OAKUM_AGENT_SERVER_SEND_DESCRIPTORS_H_
#define OAKUM_AGENT_SERVER_SEND_DESCRIPTORS_H_

#include <span>
#include <string_view>

#include "base/error.h"

namespace oakum::agent {

// One sendmsg(2) to the peer; `flags` are its own. Errors: its own, and ENAMETOOLONG beyond
// kMaxDescriptorsPerMessage (unix_socket.h).
[[nodiscard]] Expected<void> SendWithDescriptors(int socket_fd, std::string_view bytes,
                                                 std::span<const int> fds, int flags);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_SERVER_SEND_DESCRIPTORS_H_
