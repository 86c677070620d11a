// The diagnostics log: one line a message on stderr and, on request, syslog. Not the event log.
#ifndef OAKUM_BASE_LOG_H_
#define OAKUM_BASE_LOG_H_

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace oakum {

// Values are those of syslog(3), so that journald reads the "<N>" prefix (sd-daemon(3)).
enum class LogLevel : int { kError = 3, kWarning = 4, kNotice = 5, kInfo = 6, kDebug = 7 };

// Writes lines to a descriptor; safe from several threads (one write(2) a line). Lives in main and
// is handed to whoever logs: libraries return errors instead.
class Log {
 public:
  // `program` starts each line; messages above `threshold` are dropped. With `journal_prefix` each
  // line starts with "<N>", which journald turns into a priority.
  Log(std::string program, LogLevel threshold, bool journal_prefix = false, int out_fd = 2)
      : program_(std::move(program)),
        threshold_(threshold),
        journal_prefix_(journal_prefix),
        out_fd_(out_fd) {}

  void Write(LogLevel level, std::string_view message) const;

  template <typename... Args>
  void Error(fmt::format_string<Args...> format, Args&&... args) const {
    Write(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void Warning(fmt::format_string<Args...> format, Args&&... args) const {
    Write(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void Notice(fmt::format_string<Args...> format, Args&&... args) const {
    Write(LogLevel::kNotice, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void Info(fmt::format_string<Args...> format, Args&&... args) const {
    Write(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
  }
  template <typename... Args>
  void Debug(fmt::format_string<Args...> format, Args&&... args) const {
    if (threshold_ >= LogLevel::kDebug) {
      Write(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
    }
  }

 private:
  std::string program_;
  LogLevel threshold_;
  bool journal_prefix_;
  int out_fd_;
};

}  // namespace oakum

#endif  // OAKUM_BASE_LOG_H_
