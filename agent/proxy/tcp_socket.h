// What a TCP socket says of its connection.
#ifndef OAKUM_AGENT_PROXY_TCP_SOCKET_H_
#define OAKUM_AGENT_PROXY_TCP_SOCKET_H_

#include <cstdint>
#include <optional>

namespace oakum::agent {

// TCP_CLOSE, TCP_SYN_SENT and so on (tcp(7), TCP_INFO; netinet/tcp.h); nothing for what is no TCP
// socket.
[[nodiscard]] std::optional<uint8_t> TcpState(int socket_fd);

// The error that waits in the socket, which has it no more then (socket(7), SO_ERROR), or why it
// cannot be had; 0 for none.
[[nodiscard]] int TakeSocketError(int socket_fd);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_PROXY_TCP_SOCKET_H_
