// Telling the operator why a container does not start.
#ifndef OAKUM_HOOK_REPORT_H_
#define OAKUM_HOOK_REPORT_H_

#include <ctime>
#include <string>
#include <string_view>

#include "hook/runtime_command.h"

namespace oakum::hook {

// The message of an error as one line: a policy with several mistakes has one on each.
[[nodiscard]] std::string OneLine(std::string_view message);

// One line as runc's logger (logrus) writes it, with the newline: {"level":"error","msg":...,
// "time":...} or time="..." level=error msg="...". Engines show the "msg" of the last such line.
[[nodiscard]] std::string FormatRuntimeLog(std::string_view message, bool json, std::time_t now);

// Appends the message to the runtime's log where there is one. Also takes crun's "file:PATH";
// "journald:" and "syslog:" are left to ReportToSyslog.
void ReportToRuntimeLog(const LogOptions& log, std::string_view message, std::time_t now);

// Sends the message to syslog(3), which is the journal where systemd runs.
void ReportToSyslog(const char* program, const std::string& message);

}  // namespace oakum::hook

#endif  // OAKUM_HOOK_REPORT_H_
