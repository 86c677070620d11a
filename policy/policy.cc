#include "policy/policy.h"

#include <utility>

#include "policy/compiled.h"
#include "policy/destination.h"
#include "policy/glob.h"

namespace oakum::policy {

namespace {

bool IsWildcard(const IpAddress& ip) {
  return ip == IpAddress() || ip == IpAddress::FromV4({0, 0, 0, 0});
}

Decision IncomingDefault(const CompiledPolicy& policy) {
  return {.verdict = policy.source.incoming_default, .rule = policy.incoming_default_text};
}

Decision DecideListening(const CompiledPolicy& policy, const InetRequest& request) {
  const Endpoint& local = request.local;
  if (request.operation == Operation::kBind && local.port == 0) {
    return {.verdict = Verdict::kAllow, .rule = kEphemeralText};
  }
  const uint32_t rule =
      policy.index.Find(policy.listening, local.ip, local.port, request.transport);
  const Decision decision =
      rule == RuleIndex::kNone ? IncomingDefault(policy) : DecisionOf(policy.source.incoming[rule]);
  if (decision.verdict == Verdict::kAllow && request.transport != Transport::kTcp &&
      IsWildcard(local.ip)) {
    const uint32_t narrow =
        policy.index.Find(policy.udp_wildcard, local.ip, local.port, request.transport);
    if (narrow != RuleIndex::kNone) {
      return DecisionOf(policy.source.incoming[policy.udp_wildcard_ids[narrow]]);
    }
  }
  return decision;
}

// The rule that decides for that name, null for none.
const UnixRule* FindUnixRule(const CompiledPolicy& policy, std::string_view name) {
  for (const uint32_t id : policy.unix_order) {
    const UnixRule& rule = policy.source.unix_rules[id];
    if (name.starts_with(rule.pattern[0]) && MatchesPathGlob(rule.pattern, name)) {
      return &rule;
    }
  }
  return nullptr;
}

Decision DecideUnix(const CompiledPolicy& policy, const UnixRequest& request) {
  for (const std::string& alias : request.aliases) {
    const UnixRule* rule = FindUnixRule(policy, alias);
    if (rule != nullptr && rule->verdict == Verdict::kDeny) {
      return {.verdict = rule->verdict, .rule = rule->text};
    }
  }
  if (request.more_names &&
      (policy.denies_unix_patterns || policy.source.unix_default == Verdict::kDeny)) {
    return {.verdict = Verdict::kDeny, .rule = kUnixLinksText};
  }
  const UnixRule* rule = FindUnixRule(policy, request.name);
  return rule != nullptr
             ? Decision{.verdict = rule->verdict, .rule = rule->text}
             : Decision{.verdict = policy.source.unix_default, .rule = policy.unix_default_text};
}

Decision DecidePeer(const CompiledPolicy& policy, const InetRequest& request) {
  const uint32_t rule =
      policy.peers.Find(policy.index, request.remote.ip, request.local, request.transport);
  return rule == RuleIndex::kNone ? IncomingDefault(policy)
                                  : DecisionOf(policy.source.incoming[rule]);
}

}  // namespace

Policy::Policy(std::shared_ptr<const CompiledPolicy> compiled) : compiled_(std::move(compiled)) {}

const std::string& Policy::name() const { return compiled_->source.name; }
Mode Policy::mode() const { return compiled_->source.mode; }
LogLevel Policy::log() const { return compiled_->source.log; }
bool Policy::guards_incoming() const { return compiled_->guards_incoming; }
bool Policy::guards_peers() const { return compiled_->guards_peers; }
bool Policy::guards_unix() const { return compiled_->guards_unix; }
std::span<const std::string> Policy::denied_unix_paths() const {
  return compiled_->denied_unix_paths;
}
bool Policy::denies_unix_patterns() const { return compiled_->denies_unix_patterns; }
bool Policy::denies_unix_by_default() const {
  return compiled_->source.unix_default == Verdict::kDeny;
}
bool Policy::denies_by_default() const {
  return compiled_->source.outgoing_default != Verdict::kAllow;
}

bool Policy::carries() const {
  return compiled_->source.handshake || carries_datagrams() ||
         (mode() != Mode::kAudit && compiled_->redirects);
}
bool Policy::carries_datagrams() const {
  const DnsRule dns = compiled_->source.dns.rule;
  return mode() != Mode::kAudit &&
         (compiled_->redirects_datagrams || dns == DnsRule::kAllow || dns == DnsRule::kProxy);
}
bool Policy::names_domains() const { return !compiled_->source.outgoing_names.empty(); }
const DnsSettings& Policy::dns() const { return compiled_->source.dns; }
const HandshakeRules* Policy::handshake() const {
  return compiled_->source.handshake ? &*compiled_->source.handshake : nullptr;
}
const Proxy* Policy::proxy() const { return compiled_->source.proxy; }

Decision Policy::Decide(const InetRequest& request) const {
  switch (request.operation) {
    case Operation::kConnect:
    case Operation::kSend:
      return DecideDestination(*compiled_, request);
    case Operation::kBind:
    case Operation::kListen:
      return DecideListening(*compiled_, request);
    case Operation::kAccept:
      return DecidePeer(*compiled_, request);
    case Operation::kSocket:
      return {.verdict = Verdict::kDeny, .rule = kSocketText};
    case Operation::kIoUring:
      return {.verdict = Verdict::kDeny, .rule = kIoUringText};
  }
  return {.verdict = Verdict::kDeny, .rule = kSocketText};
}

Decision Policy::Decide(const UnixRequest& request) const {
  switch (request.operation) {
    case Operation::kConnect:
    case Operation::kSend:
      break;
    case Operation::kBind:
    case Operation::kListen:
    case Operation::kAccept:
      return {.verdict = Verdict::kAllow, .rule = kUnixLocalText};
    case Operation::kSocket:
      return {.verdict = Verdict::kDeny, .rule = kSocketText};
    case Operation::kIoUring:
      return {.verdict = Verdict::kDeny, .rule = kIoUringText};
  }
  return DecideUnix(*compiled_, request);
}

}  // namespace oakum::policy
