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

// An internet request. With a name, `inet.names` is empty; without an address, `inet.remote` has
// the port alone.
struct InetRequestText {
  policy::InetRequest inet;
  std::string name;  // in its normal form: lower case, without a final dot
  bool has_address = true;
};

using Request = std::variant<InetRequestText, UnixRequestText, SyscallRequestText>;

// `connect|send ADDRESS:PORT[/tcp|/udp|/icmp][ as NAME]`, `connect|send NAME:PORT[/tcp|/udp]`,
// `bind|listen ADDRESS:PORT[/tcp|/udp|/icmp]`, `accept ADDRESS:PORT from ADDRESS[:PORT]`,
// `unix PATH|@NAME`, `syscall NAME`. Without a protocol, send means udp and the
// others tcp. Errors: EINVAL.
[[nodiscard]] Expected<Request> ParseRequest(std::span<const std::string> words);

// `KEY=VALUE[,KEY=VALUE...]` with the keys of "match" in a policy file; `label.KEY=VALUE` and
// `annotation.KEY=VALUE`. Errors: EINVAL.
[[nodiscard]] Expected<policy::ContainerFacts> ParseContainer(std::string_view text);

}  // namespace oakum::cli

#endif  // OAKUM_CLI_REQUEST_TEXT_H_
