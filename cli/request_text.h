// Requests and containers as `oakum policy explain` takes them on its command line.
#ifndef OAKUM_CLI_REQUEST_TEXT_H_
#define OAKUM_CLI_REQUEST_TEXT_H_

#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.h"
#include "policy/container.h"
#include "policy/request.h"

namespace oakum::cli {

struct UnixRequestText {
  policy::Operation operation = policy::Operation::kConnect;
  std::string name;
};

struct SyscallRequestText {
  std::string name;
};

using Request = std::variant<policy::InetRequest, UnixRequestText, SyscallRequestText>;

// `connect|send|bind|listen ADDRESS:PORT[/tcp|/udp|/icmp]`, `accept ADDRESS:PORT from
// ADDRESS[:PORT]`, `unix PATH|@NAME`, `syscall NAME`. Without a protocol, send means udp and the
// others tcp. Errors: EINVAL.
[[nodiscard]] Expected<Request> ParseRequest(std::span<const std::string> words);

// `KEY=VALUE[,KEY=VALUE...]` with the keys of "match" in a policy file; `label.KEY=VALUE` and
// `annotation.KEY=VALUE`. Errors: EINVAL.
[[nodiscard]] Expected<policy::ContainerFacts> ParseContainer(std::string_view text);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_REQUEST_TEXT_H_
