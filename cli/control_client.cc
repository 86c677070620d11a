#include "cli/control_client.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "agent/control.h"
#include "base/file.h"
#include "base/unique_fd.h"
#include "policy/config.h"

namespace oakum::cli {

namespace {

constexpr time_t kTimeoutSeconds = 5;
constexpr size_t kMaxAnswer = size_t{64} << 20;

Expected<UniqueFd> Connect(const std::string& path) {
  struct sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return ErrnoError(ENAMETOOLONG, fmt::format("control socket {}", path));
  }
  memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) {
    return ErrnoError("socket");
  }
  const struct timeval timeout = {.tv_sec = kTimeoutSeconds, .tv_usec = 0};
  if (setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) != 0 ||
      setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) != 0) {
    return ErrnoError("setsockopt");
  }
  if (connect(fd.get(), reinterpret_cast<const struct sockaddr*>(&address), sizeof(address)) != 0) {
    const int code = errno;
    return MakeError(code, fmt::format("no agent answers at {}: {}; is oakum-agent running?", path,
                                       strerror(code)));
  }
  return fd;
}

Expected<std::string> ReceiveLine(int fd, const std::string& path) {
  std::string line;
  std::array<char, 65'536> buffer;
  while (!line.ends_with('\n')) {
    const ssize_t got = recv(fd, buffer.data(), buffer.size(), 0);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0) {
      return ErrnoError(errno == EAGAIN ? ETIMEDOUT : errno,
                        fmt::format("read from the agent at {}", path));
    }
    if (got == 0 || line.size() > kMaxAnswer) {
      return MakeError(EPROTO, fmt::format("the agent at {} broke off its answer", path));
    }
    line.append(buffer.data(), static_cast<size_t>(got));
  }
  return line;
}

}  // namespace

void AddAgentChoice(CLI::App& command, AgentChoice& choice) {
  command.add_option("--config", choice.config, "configuration file")->type_name("FILE");
  command.add_option("--control", choice.control, "control socket of the agent")->type_name("PATH");
}

Expected<std::string> ControlPath(const AgentChoice& choice, const Context& context) {
  if (choice.control) {
    return *choice.control;
  }
  const auto config = policy::LoadConfig(choice.config, context.config_variable);
  if (!config) {
    return std::unexpected(config.error());
  }
  return config->control.empty() ? agent::DefaultControlPath(config->socket) : config->control;
}

Expected<oci::Json> AskAgent(const std::string& control_path, const std::string& op) {
  const auto fd = Connect(control_path);
  if (!fd) {
    return std::unexpected(fd.error());
  }
  const std::string request = oci::Json{{"op", op}}.dump() + "\n";
  if (send(fd->get(), request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size())) {
    return ErrnoError(fmt::format("write to the agent at {}", control_path));
  }
  const auto line = ReceiveLine(fd->get(), control_path);
  if (!line) {
    return std::unexpected(line.error());
  }
  auto answer = oci::ParseJson(*line, "the agent's answer");
  if (!answer) {
    return std::unexpected(std::move(answer.error()));
  }
  if (answer->is_object() && answer->value("ok", oci::Json()) == false &&
      answer->value("error", oci::Json()).is_string()) {
    return MakeError(EREMOTEIO, answer->at("error").get<std::string>());
  }
  if (!answer->is_object() || !answer->contains("ok") || answer->at("ok") != true) {
    return MakeError(EPROTO, fmt::format("the agent at {} says: {}", control_path,
                                         Escape(answer->dump(-1, ' ', true))));
  }
  return answer;
}

Expected<std::string> EventsPath(const std::string& control_path) {
  const auto status = AskAgent(control_path, "status");
  if (!status) {
    return std::unexpected(status.error());
  }
  const auto events = status->find("events");
  if (events == status->end() || !events->is_string()) {
    return MakeError(EPROTO, "the agent does not say where its events go");
  }
  if (*events == "-") {
    return MakeError(ENOENT,
                     "the agent writes its events to its standard output: look there (journalctl "
                     "-u oakum-agent -o cat), or name a file");
  }
  return events->get<std::string>();
}

Expected<std::string> EventsFile(const std::optional<std::string>& file, const AgentChoice& choice,
                                 const Context& context) {
  if (file) {
    return *file;
  }
  const auto control = ControlPath(choice, context);
  if (!control) {
    return control;
  }
  return EventsPath(*control);
}

}  // namespace oakum::cli
