// One compiled policy: an immutable value that answers questions without allocating.
#ifndef OAKUM_POLICY_POLICY_H_
#define OAKUM_POLICY_POLICY_H_

#include <memory>
#include <string>

#include "policy/proxy.h"
#include "policy/request.h"

namespace oakum::policy {

enum class Mode : uint8_t { kAudit, kEnforce, kKill };
enum class LogLevel : uint8_t { kLeaks, kAll };  // "log": which verdicts become events

struct CompiledPolicy;  // rules in their compiled form; private to policy/

class Policy {
 public:
  explicit Policy(std::shared_ptr<const CompiledPolicy> compiled);

  [[nodiscard]] const std::string& name() const;
  [[nodiscard]] Mode mode() const;
  [[nodiscard]] LogLevel log() const;
  // Whether kBind, kListen and kAccept have to be decided at all (incoming is not
  // allow-everything).
  [[nodiscard]] bool guards_incoming() const;
  // Whether accepted connections have to be looked at: a rule has "from" or a local address of its
  // own, or what no rule names is denied.
  [[nodiscard]] bool guards_peers() const;
  // Whether unix sockets have to be decided (the unix section is not allow-everything). It decides
  // where a container connects and sends to; binding a name of its own is never denied.
  [[nodiscard]] bool guards_unix() const;
  // The unix rules that deny one path each, without wildcards.
  [[nodiscard]] std::span<const std::string> denied_unix_paths() const;
  // Whether a rule with wildcards denies paths.
  [[nodiscard]] bool denies_unix_patterns() const;
  // Whether what no unix rule names is denied.
  [[nodiscard]] bool denies_unix_by_default() const;

  // Whether a destination that no rule names is denied, or goes through the proxy.
  [[nodiscard]] bool denies_by_default() const;

  // Whether something may be carried through a proxy, answered by the agent, or checked: some
  // decision has another `carry` than kDirect.
  [[nodiscard]] bool carries() const;
  // The same for datagrams, DNS included: then who a datagram is from has to be told by the agent
  // (recvfrom(2), recvmsg(2), recvmmsg(2) are notified).
  [[nodiscard]] bool carries_datagrams() const;
  // Whether a rule names a domain, so that the names of a destination matter.
  [[nodiscard]] bool names_domains() const;
  [[nodiscard]] const DnsSettings& dns() const;
  // Null without "handshake".
  [[nodiscard]] const HandshakeRules* handshake() const;
  // What a redirect rule without a proxy of its own uses; null without "proxy".
  [[nodiscard]] const Proxy* proxy() const;

  // What `enforce` does with the request. Thread-safe; no allocation, no system call; time does not
  // grow with the number of address rules beyond the depth of a prefix tree.
  [[nodiscard]] Decision Decide(const InetRequest& request) const;
  [[nodiscard]] Decision Decide(const UnixRequest& request) const;

  [[nodiscard]] const CompiledPolicy& compiled() const { return *compiled_; }

 private:
  std::shared_ptr<const CompiledPolicy> compiled_;
};

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_POLICY_H_
