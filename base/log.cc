#include "base/log.h"

#include <unistd.h>

namespace oakum {

void Log::Write(LogLevel level, std::string_view message) const {
  if (level > threshold_) {
    return;
  }
  std::string line;
  if (journal_prefix_) {
    line = fmt::format("<{}>", static_cast<int>(level));
  }
  const std::string_view severity = level == LogLevel::kError     ? "error: "
                                    : level == LogLevel::kWarning ? "warning: "
                                                                  : "";
  line += fmt::format("{}: {}{}\n", program_, severity, message);
  // A log that cannot be written has nobody left to tell.
  [[maybe_unused]] const ssize_t written = write(out_fd_, line.data(), line.size());
}

}  // namespace oakum
