#include "agent/metrics.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <iterator>

#include "agent/events/event_json.h"

namespace oakum::agent {

namespace {

constexpr int kBacklog = 64;

// Writes one family after the other.
class Page {
 public:
  void Counter(std::string_view name, std::string_view help, uint64_t value) {
    Family(name, help, "counter");
    Sample(name, "", value);
  }
  void Gauge(std::string_view name, std::string_view help, uint64_t value) {
    Family(name, help, "gauge");
    Sample(name, "", value);
  }
  void Family(std::string_view name, std::string_view help, std::string_view type) {
    fmt::format_to(std::back_inserter(text_), "# HELP {} {}\n# TYPE {} {}\n", name, help, name,
                   type);
  }
  // `labels` with its braces; their values are ours and need no escaping.
  void Sample(std::string_view name, std::string_view labels, double value) {
    fmt::format_to(std::back_inserter(text_), "{}{} {}\n", name, labels, value);
  }
  void Sample(std::string_view name, std::string_view labels, uint64_t value) {
    fmt::format_to(std::back_inserter(text_), "{}{} {}\n", name, labels, value);
  }
  [[nodiscard]] std::string Take() { return std::move(text_); }

 private:
  std::string text_;
};

void RenderSessions(const AgentStatus& status, Page& page) {
  uint64_t waiting = 0;
  uint64_t unseen = 0;
  uint64_t refused = 0;
  for (const SessionInfo& session : status.sessions) {
    waiting += session.waiting;
    unseen += session.filter_gaps.unseen.empty() ? 0 : 1;
    refused += session.filter_gaps.refused.empty() ? 0 : 1;
  }
  page.Gauge("oakum_sessions", "Notify descriptors that are attended to.", status.sessions.size());
  page.Counter("oakum_sessions_total", "Notify descriptors that were attached.",
               status.totals.sessions);
  page.Gauge("oakum_waiting_calls", "Calls that are being performed.", waiting);
  page.Family("oakum_stale_filters",
              "Sessions whose filter lets calls pass unseen, or refuses calls, that their policy "
              "wants to decide.",
              "gauge");
  page.Sample("oakum_stale_filters", R"({gap="unseen"})", unseen);
  page.Sample("oakum_stale_filters", R"({gap="refused"})", refused);
  page.Counter("oakum_notifications_total", "Calls that the kernel asked about.",
               status.totals.calls);
  page.Family("oakum_calls_total", "Decided calls.", "counter");
  page.Sample("oakum_calls_total", R"({verdict="allow"})", status.totals.allowed);
  page.Sample("oakum_calls_total", R"({verdict="deny"})", status.totals.denied);
  page.Sample("oakum_calls_total", R"({verdict="redirect"})", status.totals.redirected);
  page.Counter("oakum_leaks_total",
               "Decided calls that went, or would have gone, around the proxy.",
               status.totals.leaks);
  page.Counter("oakum_proxy_failures_total",
               "Times that a proxy did not carry what it should have.",
               status.totals.proxy_failures);
}

void RenderEvents(const AgentStatus& status, Page& page) {
  page.Family("oakum_events_total", "Events by verdict.", "counter");
  for (const EventVerdict verdict :
       {EventVerdict::kAllow, EventVerdict::kAudit, EventVerdict::kDeny, EventVerdict::kRedirect,
        EventVerdict::kKill}) {
    page.Sample("oakum_events_total", fmt::format(R"({{verdict="{}"}})", ToString(verdict)),
                status.events.pushed[static_cast<size_t>(verdict)]);
  }
  page.Counter("oakum_event_lines_total", "Lines made for the event log.", status.events.lines);
  page.Counter("oakum_events_folded_total", "Events that stand in another line's count.",
               status.events.folded);
  page.Counter("oakum_events_suppressed_total",
               "Events that stand in another line's suppressed count.", status.events.suppressed);
  page.Counter("oakum_event_write_errors_total", "Failed attempts to write the event log.",
               status.events.write_errors);
  page.Gauge("oakum_events_queued", "Events that wait for the writer.", status.events.queued);
}

void RenderAgent(const AgentStatus& status, Page& page) {
  page.Family("oakum_build_info", "The running version.", "gauge");
  page.Sample("oakum_build_info", fmt::format(R"({{version="{}"}})", status.version), uint64_t{1});
  page.Family("oakum_start_time_seconds", "When the agent started, in seconds since 1970.",
              "gauge");
  page.Sample("oakum_start_time_seconds", "", static_cast<double>(status.started_ns) / 1e9);
  page.Gauge("oakum_policy_generation", "Policies taken since the start, the first included.",
             status.policy_generation);
  page.Family("oakum_policy_reloads_total", "Policy reloads by result.", "counter");
  page.Sample("oakum_policy_reloads_total", R"({result="ok"})",
              status.reloads - status.failed_reloads);
  page.Sample("oakum_policy_reloads_total", R"({result="failed"})", status.failed_reloads);
  page.Gauge("oakum_policy_stale", "1 while the last reload was refused and an older policy holds.",
             status.policy_error.empty() ? 0 : 1);
  page.Gauge("oakum_runtime_connections", "Connections of runtimes that are open.",
             status.listener.connections);
  page.Family("oakum_runtime_connections_total", "Connections of runtimes by result.", "counter");
  page.Sample("oakum_runtime_connections_total", R"({result="attached"})",
              status.listener.attached);
  page.Sample("oakum_runtime_connections_total", R"({result="failed"})", status.listener.failed);
  page.Sample("oakum_runtime_connections_total", R"({result="refused"})", status.listener.refused);
  page.Sample("oakum_runtime_connections_total", R"({result="evicted"})", status.listener.evicted);
}

std::string HttpAnswer(std::string_view status, std::string_view type, std::string_view body,
                       bool with_body, std::string_view extra = {}) {
  return fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n{}",
      status, type, body.size(), extra, with_body ? body : std::string_view());
}

Expected<uint16_t> ParsePort(std::string_view text, const std::string& address) {
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return MakeError(EINVAL, fmt::format("metrics address \"{}\": \"{}\" is no port (0 to 65535)",
                                         Escape(address), Escape(text)));
  }
  return port;
}

// The socket address for `host`: [IPv6], IPv4, or empty for every address.
Expected<struct sockaddr_storage> ParseAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return MakeError(EINVAL, fmt::format("metrics address \"{}\": expected ADDRESS:PORT, as in "
                                         "127.0.0.1:9464 or [::1]:9464",
                                         Escape(address)));
  }
  const auto port = ParsePort(std::string_view(address).substr(colon + 1), address);
  if (!port) {
    return std::unexpected(port.error());
  }
  std::string host = address.substr(0, colon);
  struct sockaddr_storage storage = {};
  struct sockaddr_in v4 = {};
  struct sockaddr_in6 v6 = {};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(*port);
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(*port);
  if (host.empty() ||
      (host.size() > 2 && host.front() == '[' && host.back() == ']' &&
       inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &v6.sin6_addr) == 1)) {
    memcpy(&storage, &v6, sizeof(v6));
    return storage;
  }
  if (inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
    memcpy(&storage, &v4, sizeof(v4));
    return storage;
  }
  return MakeError(EINVAL, fmt::format("metrics address \"{}\": \"{}\" is neither an IPv4 address "
                                       "nor a bracketed IPv6 address",
                                       Escape(address), Escape(host)));
}

}  // namespace

std::string RenderMetrics(const AgentStatus& status) {
  Page page;
  RenderAgent(status, page);
  RenderSessions(status, page);
  RenderEvents(status, page);
  return page.Take();
}

std::string HttpError(std::string_view status_line) {
  return HttpAnswer(status_line, "text/plain", "", true);
}

TextServer::Reply AnswerHttp(std::string_view head, const std::function<AgentStatus()>& status) {
  const std::string_view line = head.substr(0, head.find("\r\n"));
  const size_t first = line.find(' ');
  const size_t second = line.rfind(' ');
  if (first == std::string_view::npos || first == second ||
      !line.substr(second + 1).starts_with("HTTP/1.")) {
    return {.text = HttpError("400 Bad Request"), .close = true};
  }
  const std::string_view method = line.substr(0, first);
  std::string_view target = line.substr(first + 1, second - first - 1);
  target = target.substr(0, target.find('?'));
  if (target != "/metrics") {
    return {.text = HttpAnswer("404 Not Found", "text/plain", "see /metrics\n", method != "HEAD"),
            .close = true};
  }
  if (method != "GET" && method != "HEAD") {
    return {.text = HttpAnswer("405 Method Not Allowed", "text/plain", "", true,
                               "Allow: GET, HEAD\r\n"),
            .close = true};
  }
  return {.text = HttpAnswer("200 OK", "text/plain; version=0.0.4; charset=utf-8",
                             RenderMetrics(status()), method == "GET"),
          .close = true};
}

Expected<void> CheckTcpAddress(const std::string& address) {
  if (auto parsed = ParseAddress(address); !parsed) {
    return std::unexpected(std::move(parsed.error()));
  }
  return {};
}

Expected<UniqueFd> ListenTcp(const std::string& address) {
  const auto storage = ParseAddress(address);
  if (!storage) {
    return std::unexpected(storage.error());
  }
  const auto family = storage->ss_family;
  UniqueFd fd(socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) {
    return ErrnoError("metrics: socket");
  }
  const int on = 1;
  if (setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0) {
    return ErrnoError("metrics: SO_REUSEADDR");
  }
  const socklen_t length =
      family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
  if (bind(fd.get(), reinterpret_cast<const struct sockaddr*>(&*storage), length) != 0) {
    return ErrnoError(fmt::format("metrics: bind {}", address));
  }
  if (listen(fd.get(), kBacklog) != 0) {
    return ErrnoError(fmt::format("metrics: listen {}", address));
  }
  return fd;
}

}  // namespace oakum::agent
