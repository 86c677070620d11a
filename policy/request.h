// The question put to a policy and its answer. Pure values: nothing here reads a process.
#ifndef OAKUM_POLICY_REQUEST_H_
#define OAKUM_POLICY_REQUEST_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "policy/address.h"

namespace oakum::policy {

enum class Operation : uint8_t {
  kConnect,  // connect(2)
  kSend,     // one datagram or message with a destination: sendto(2), sendmsg(2), sendmmsg(2)
  kBind,     // bind(2)
  kListen,   // listen(2)
  kAccept,   // accept(2), accept4(2): one peer
  kSocket,   // socket(2) of a family, type or protocol that the filter does not allow by itself
  kIoUring,  // io_uring_setup(2) and its kin (audit only: enforce refuses them in the filter)
};

enum class Transport : uint8_t { kTcp, kUdp, kOther };  // kOther: ping sockets, raw, ...

// An internet request. For kConnect and kSend `remote` is the destination; for kBind and kListen
// `local` is the address that is (to be) bound; for kAccept both are set.
struct InetRequest {
  Operation operation = Operation::kConnect;
  Transport transport = Transport::kTcp;
  Endpoint remote;
  Endpoint local;
  // kConnect and kSend: the names that this container was told `remote` for and that are still
  // valid, lower case without a final dot. What rules for names are compared with.
  std::span<const std::string> names = {};
};

// A unix(7) request.
struct UnixRequest {
  Operation operation = Operation::kConnect;
  // Absolute path inside the container's root, symbolic links resolved, or "@name" for the abstract
  // namespace (bytes after the leading NUL as they are). Empty for a socket file that has no name
  // in the container: what no rule names.
  std::string_view name;
  // Other names that lead to the same socket file: a rule that denies one of them denies it, a rule
  // that allows one of them says nothing.
  std::span<const std::string> aliases = {};
  // Whether there may be names that are not listed (hard links): then it is denied wherever a rule
  // could deny one of those.
  bool more_names = false;
};

enum class Verdict : uint8_t { kAllow, kDeny, kRedirect };

struct Proxy;

// How what is not refused gets there.
enum class Carry : uint8_t {
  kDirect,    // as it is
  kProxy,     // kRedirect: through Decision::proxy
  kResolver,  // port 53 under "dns": kRedirect is answered by the agent ("proxy"), kAllow is
              // forwarded to the server that was asked and its answers are watched ("allow")
  kChecked,   // kAllow: a program speaks to Decision::proxy itself, and "handshake" says what it
              // must speak
};

// The answer. `rule` names what decided, as the operator wrote it ("outgoing.deny 10.1.2.3",
// "outgoing.default deny", "dns deny", "proxy"); it lives as long as the policy does.
struct Decision {
  Verdict verdict = Verdict::kDeny;
  std::string_view rule;
  Carry carry = Carry::kDirect;
  const Proxy* proxy = nullptr;  // lives as long as the policy does
};

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_REQUEST_H_
