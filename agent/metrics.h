// The metrics page: Prometheus text format 0.0.4 over HTTP/1.1 GET.
#ifndef OAKUM_AGENT_METRICS_H_
#define OAKUM_AGENT_METRICS_H_

#include <functional>
#include <string>
#include <string_view>

#include "agent/agent_status.h"
#include "agent/server/text_server.h"
#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

inline constexpr size_t kMaxHttpRequest = 8'192;
inline constexpr size_t kMaxHttpClients = 32;

[[nodiscard]] std::string RenderMetrics(const AgentStatus& status);

// Answers one request head (RFC 9112), its final empty line left out: GET and HEAD of /metrics,
// 404 and 405 for the rest, 400 for what is no HTTP/1 request. Each answer closes the connection.
[[nodiscard]] TextServer::Reply AnswerHttp(std::string_view head,
                                           const std::function<AgentStatus()>& status);
// A whole answer of that status ("431 Request Header Fields Too Large") without content.
[[nodiscard]] std::string HttpError(std::string_view status_line);

// Listens on ADDRESS:PORT, ADDRESS an IPv4 or a bracketed IPv6 address; ":PORT" is every address.
// Errors: EINVAL when it is not one, else socket(2)'s, bind(2)'s and listen(2)'s.
[[nodiscard]] Expected<UniqueFd> ListenTcp(const std::string& address);

// The same errors for the text alone.
[[nodiscard]] Expected<void> CheckTcpAddress(const std::string& address);

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_METRICS_H_
