#include "hook/report.h"

#include <fcntl.h>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <syslog.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/unique_fd.h"

namespace oakum::hook {

std::string OneLine(std::string_view message) {
  std::string line;
  for (const char c : message) {
    if (c == '\n') {
      line.append("; ");
    } else {
      line.push_back(c);
    }
  }
  return line;
}

std::string FormatRuntimeLog(std::string_view message, bool json, std::time_t now) {
  const std::string time = fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(now));
  const auto quote = [](std::string_view text) {
    return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  };
  return json ? fmt::format("{{\"level\":\"error\",\"msg\":{},\"time\":\"{}\"}}\n", quote(message),
                            time)
              : fmt::format("time=\"{}\" level=error msg={}\n", time, quote(message));
}

void ReportToRuntimeLog(const LogOptions& log, std::string_view message, std::time_t now) {
  std::string path = log.path;
  if (path.starts_with("file:")) {
    path.erase(0, 5);
  }
  if (path.empty() || path.starts_with("journald:") || path.starts_with("syslog:")) {
    return;
  }
  const UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  // A log that cannot be written has nobody left to tell; stderr and syslog get the message too.
  [[maybe_unused]] const bool written =
      fd && WriteAll(fd.get(), FormatRuntimeLog(message, log.json, now)).has_value();
}

void ReportToSyslog(const char* program, const std::string& message) {
  openlog(program, LOG_PID | LOG_NDELAY, LOG_DAEMON);
  syslog(LOG_ERR, "%s", message.c_str());
  closelog();
}

}  // namespace oakum::hook
