#include "policy/destination.h"

namespace oakum::policy {

namespace {

// What the rules of the operator's say, if anything.
const AddressRule* FindRule(const CompiledPolicy& policy, const Destination& to) {
  const CompiledPolicy::Outgoing& outgoing = to.closed ? policy.outgoing_dns : policy.outgoing;
  const InetRequest& request = to.request;
  const uint16_t port = request.remote.port;
  const uint32_t by_address = policy.index.Find(
      to.anywhere ? outgoing.everywhere : outgoing.addresses, to.ip, port, request.transport);
  const AddressRule* address =
      by_address == RuleIndex::kNone ? nullptr : &policy.source.outgoing[by_address];
  const bool single = address != nullptr && address->host.IsSingle();
  if (to.docker) {
    return single ? address : nullptr;
  }
  if (request.names.empty() || outgoing.names.empty() || single) {
    return address;
  }
  const uint32_t by_name = outgoing.names.Find(policy.source.outgoing_names, policy.index,
                                               request.names, port, request.transport);
  if (by_name == NameIndex::kNone) {
    return address;
  }
  // Whoever owns a name can let it point anywhere: that opens nothing which is denied by address.
  const AddressRule& name = policy.source.outgoing_names[by_name];
  const bool rebound = name.verdict != Verdict::kDeny && address != nullptr &&
                       address->verdict == Verdict::kDeny && address->host.length != 0;
  return rebound ? address : &name;
}

// `ip` is canonical.
Decision DecideAddress(const CompiledPolicy& policy, const IpAddress& ip,
                       const InetRequest& request) {
  const Destination to = Destination::Of(policy, ip, request);
  const AddressRule* rule = to.IsUnknown() ? nullptr : FindRule(policy, to);
  return Settle(policy, to, rule != nullptr ? DecisionOf(*rule) : WithoutRule(policy, to));
}

}  // namespace

Destination Destination::Of(const CompiledPolicy& policy, const IpAddress& ip,
                            const InetRequest& request) {
  const DnsRule dns = policy.source.dns.rule;
  const bool closes = ClosesDns(policy.source);
  const bool query = request.remote.port == kDnsPort && dns != DnsRule::kFollow;
  const bool synthetic = IsSynthetic(policy.source, ip);
  return {
      .ip = ip,
      .request = request,
      .query = query,
      .closed = query && closes,
      .synthetic = synthetic,
      .anywhere = synthetic,
      .docker = closes && !query && request.transport != Transport::kOther && IsDockerResolver(ip)};
}

Decision DecisionOf(const AddressRule& rule) {
  return {.verdict = rule.verdict, .rule = rule.text, .carry = rule.carry, .proxy = rule.proxy};
}

Decision WithoutRule(const CompiledPolicy& policy, const Destination& to) {
  const CheckedPolicy& source = policy.source;
  if (to.IsUnknown()) {
    return {.verdict = Verdict::kDeny, .rule = kDnsUnknownText};
  }
  if (to.docker) {
    return {.verdict = Verdict::kDeny,
            .rule = source.dns.rule == DnsRule::kProxy ? kDnsProxyText : kDnsDenyText};
  }
  if (to.query) {
    switch (source.dns.rule) {
      case DnsRule::kAllow:
        return {.verdict = Verdict::kAllow, .rule = kDnsAllowText};
      case DnsRule::kProxy:
        return {.verdict = Verdict::kRedirect,
                .rule = kDnsProxyText,
                .carry = Carry::kResolver,
                .proxy = source.dns.proxy};
      case DnsRule::kDeny:
      case DnsRule::kFollow:
        return {.verdict = Verdict::kDeny, .rule = kDnsDenyText};
    }
  }
  const bool redirect = source.outgoing_default == Verdict::kRedirect;
  return {.verdict = source.outgoing_default,
          .rule = policy.outgoing_default_text,
          .carry = redirect ? Carry::kProxy : Carry::kDirect,
          .proxy = redirect ? source.proxy : nullptr};
}

Decision Settle(const CompiledPolicy& policy, const Destination& to, Decision decision) {
  const bool other = to.request.transport == Transport::kOther;
  if (to.synthetic && decision.verdict == Verdict::kAllow) {
    // Only the proxy can tell where the name leads.
    decision.verdict = Verdict::kRedirect;
    decision.carry = Carry::kProxy;
    decision.proxy = policy.source.dns.proxy;
  }
  if (decision.verdict == Verdict::kRedirect && other) {
    return {.verdict = Verdict::kDeny, .rule = decision.rule};  // no proxy carries it
  }
  if (decision.verdict == Verdict::kAllow && decision.carry == Carry::kDirect && to.query &&
      policy.source.dns.rule == DnsRule::kAllow && !other && policy.source.mode != Mode::kAudit) {
    decision.carry = Carry::kResolver;
  }
  return decision;
}

bool IsStricter(const Decision& a, const Decision& b) {
  const auto rank = [](const Decision& decision) {
    switch (decision.verdict) {
      case Verdict::kAllow:
        return decision.carry == Carry::kDirect ? 0 : decision.carry == Carry::kResolver ? 1 : 2;
      case Verdict::kRedirect:
        return 3;
      case Verdict::kDeny:
        return 4;
    }
    return 4;
  };
  return rank(a) > rank(b);
}

Decision DecideDestination(const CompiledPolicy& policy, const InetRequest& request) {
  const IpAddress ip = CanonicalDestination(request.remote.ip);
  const Decision direct = DecideAddress(policy, ip, request);
  const auto embedded = EmbeddedV4(ip);
  if (!embedded) {
    return direct;
  }
  const Decision carried = DecideAddress(policy, CanonicalDestination(*embedded), request);
  return IsStricter(carried, direct) ? carried : direct;
}

}  // namespace oakum::policy
