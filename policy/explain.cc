#include "policy/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "policy/compiled.h"
#include "policy/glob.h"

namespace oakum::policy {

namespace {

std::string PlaceOf(const CompiledPolicy& policy, const Place& place) {
  return fmt::format("{}:{}", (*policy.files)[place.file], place.position.line);
}

// A rule that covers the address, with what speaks for it.
struct Candidate {
  const AddressRule* rule = nullptr;
  int from_length = 0;   // of the peer's prefix
  std::string excluded;  // why it has no say; empty when it has
};

// "*" and "/0" are equally wide.
int FromLength(const AddressRule& rule, Operation operation) {
  return operation == Operation::kAccept && rule.from ? rule.from->length : 0;
}

bool Beats(const Candidate& a, const Candidate& b) {
  if (a.from_length != b.from_length) {
    return a.from_length > b.from_length;
  }
  if (a.rule->host.length != b.rule->host.length) {
    return a.rule->host.length > b.rule->host.length;
  }
  return BeatsAtSamePrefix(*a.rule, *b.rule);
}

std::string WhyLost(const Candidate& winner, const Candidate& loser) {
  const AddressRule& won = *winner.rule;
  const AddressRule& lost = *loser.rule;
  if (winner.from_length != loser.from_length) {
    return fmt::format("its \"from\" is wider (/{} against /{})", loser.from_length,
                       winner.from_length);
  }
  if (won.host.length != lost.host.length) {
    return fmt::format("its prefix is shorter (/{} against /{})", lost.host.length,
                       won.host.length);
  }
  if (won.PortCount() != lost.PortCount()) {
    return lost.ports.empty() ? "it names no ports" : "it covers more ports";
  }
  if (won.transport.has_value() != lost.transport.has_value()) {
    return "it names no protocol";
  }
  if (won.verdict != lost.verdict) {
    return "it is equally specific, and the stricter rule wins a tie";
  }
  return "it says the same and stands later";
}

// Explains one address of a request.
class AddressExplainer {
 public:
  AddressExplainer(const CompiledPolicy& policy, const InetRequest& request)
      : policy_(policy), request_(request) {}

  Explanation Destination(const IpAddress& ip) {
    const bool dns_deny =
        request_.remote.port == kDnsPort && policy_.source.dns.rule == DnsRule::kDeny;
    for (const AddressRule& rule : policy_.source.outgoing) {
      if (!rule.host.Contains(ip)) {
        continue;
      }
      Candidate& candidate = Add(rule, request_.remote.port);
      if (candidate.excluded.empty() && dns_deny && rule.verdict == Verdict::kAllow &&
          !rule.names_dns) {
        candidate.excluded = "dns is \"deny\" and it does not name port 53";
      }
    }
    if (dns_deny) {
      return Choose(Verdict::kDeny, kDnsDenyText);
    }
    if (request_.remote.port == kDnsPort && policy_.source.dns.rule == DnsRule::kAllow) {
      return Choose(Verdict::kAllow, kDnsAllowText);
    }
    return Choose(policy_.source.outgoing_default, policy_.outgoing_default_text);
  }

  Explanation Incoming() {
    const bool accepting = request_.operation == Operation::kAccept;
    for (const AddressRule& rule : policy_.source.incoming) {
      if (!rule.host.Contains(request_.local.ip)) {
        continue;
      }
      Candidate& candidate = Add(rule, request_.local.port);
      if (!candidate.excluded.empty() || !rule.from) {
        continue;
      }
      if (accepting && !rule.from->Contains(request_.remote.ip)) {
        candidate.excluded = "it is for other peers";
      } else if (!accepting && rule.verdict == Verdict::kDeny) {
        candidate.excluded = "it forbids some peers, not to listen";
      }
    }
    return Choose(policy_.source.incoming_default, policy_.incoming_default_text);
  }

 private:
  Candidate& Add(const AddressRule& rule, uint16_t port) {
    Candidate& candidate = candidates_.emplace_back();
    candidate.rule = &rule;
    candidate.from_length = FromLength(rule, request_.operation);
    if (!rule.Covers(port, request_.transport)) {
      candidate.excluded = rule.transport && *rule.transport != request_.transport
                               ? "it is for another protocol"
                               : "it is for other ports";
    }
    return candidate;
  }

  Explanation Choose(Verdict otherwise, std::string_view otherwise_rule) {
    std::stable_sort(candidates_.begin(), candidates_.end(), Beats);
    const auto winner =
        std::find_if(candidates_.begin(), candidates_.end(),
                     [](const Candidate& candidate) { return candidate.excluded.empty(); });
    Explanation explanation;
    const bool found = winner != candidates_.end();
    explanation.verdict = found ? winner->rule->verdict : otherwise;
    explanation.rule = found ? winner->rule->text : std::string(otherwise_rule);
    explanation.place = found ? PlaceOf(policy_, winner->rule->place) : "";
    for (auto candidate = candidates_.begin(); candidate != candidates_.end(); ++candidate) {
      if (candidate != winner) {
        const bool applies = candidate->excluded.empty();
        explanation.others.push_back(
            {.rule = candidate->rule->text,
             .place = PlaceOf(policy_, candidate->rule->place),
             .why = applies ? WhyLost(*winner, *candidate) : candidate->excluded,
             .applies = applies});
      }
    }
    return explanation;
  }

  const CompiledPolicy& policy_;
  const InetRequest& request_;
  std::vector<Candidate> candidates_;
};

int Strictness(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAllow:
      return 0;
    case Verdict::kRedirect:
      return 1;
    case Verdict::kDeny:
      return 2;
  }
  return 2;
}

Explanation ExplainDestination(const CompiledPolicy& policy, const InetRequest& request) {
  std::vector<std::string> notes;
  const auto canonical = [&](const IpAddress& ip) {
    const IpAddress reached = CanonicalDestination(ip);
    if (reached != ip) {
      notes.push_back(fmt::format("{} as a destination is {}", ip.ToString(), reached.ToString()));
    }
    return reached;
  };
  const IpAddress ip = canonical(request.remote.ip);
  Explanation explanation = AddressExplainer(policy, request).Destination(ip);
  if (const auto embedded = EmbeddedV4(ip)) {
    notes.push_back(fmt::format("{} carries {}: the stricter decision of the two counts",
                                ip.ToString(), embedded->ToString()));
    Explanation carried = AddressExplainer(policy, request).Destination(canonical(*embedded));
    if (Strictness(carried.verdict) > Strictness(explanation.verdict)) {
      notes.push_back(fmt::format("for {} alone it would be: {}", ip.ToString(), explanation.rule));
      explanation = std::move(carried);
    }
  }
  explanation.notes = std::move(notes);
  return explanation;
}

Explanation ExplainListening(const Policy& policy, const InetRequest& request) {
  const CompiledPolicy& compiled = policy.compiled();
  Explanation explanation = AddressExplainer(compiled, request).Incoming();
  const Decision decision = policy.Decide(request);
  if (decision.rule == kEphemeralText) {
    explanation.notes.emplace_back(
        "binding to port 0 only chooses a port; what listens there is decided at listen(2)");
    explanation.place.clear();
    explanation.others.clear();
  } else if (decision.rule != explanation.rule) {
    explanation.notes.emplace_back(
        "a socket on the wildcard address would receive what this rule forbids");
    for (const AddressRule& rule : compiled.source.incoming) {
      if (rule.text == decision.rule) {
        explanation.place = PlaceOf(compiled, rule.place);
      }
    }
  }
  explanation.verdict = decision.verdict;
  explanation.rule = decision.rule;
  return explanation;
}

Explanation Plain(const Decision& decision) {
  return {.verdict = decision.verdict,
          .rule = std::string(decision.rule),
          .place = {},
          .notes = {},
          .others = {}};
}

}  // namespace

Explanation Explain(const Policy& policy, const InetRequest& request) {
  switch (request.operation) {
    case Operation::kConnect:
    case Operation::kSend:
      return ExplainDestination(policy.compiled(), request);
    case Operation::kBind:
    case Operation::kListen:
      return ExplainListening(policy, request);
    case Operation::kAccept:
      return AddressExplainer(policy.compiled(), request).Incoming();
    case Operation::kSocket:
    case Operation::kIoUring:
      return Plain(policy.Decide(request));
  }
  return Plain(policy.Decide(request));
}

Explanation Explain(const Policy& policy, const UnixRequest& request) {
  const CompiledPolicy& compiled = policy.compiled();
  Explanation explanation = Plain(policy.Decide(request));
  const UnixRule* winner = nullptr;
  for (const uint32_t id : compiled.unix_order) {
    const UnixRule& rule = compiled.source.unix_rules[id];
    if (!request.name.starts_with(rule.pattern[0]) ||
        !MatchesPathGlob(rule.pattern, request.name) || explanation.rule == kUnixLocalText) {
      continue;
    }
    if (winner == nullptr) {
      winner = &rule;
      explanation.place = PlaceOf(compiled, rule.place);
      continue;
    }
    explanation.others.push_back({.rule = rule.text,
                                  .place = PlaceOf(compiled, rule.place),
                                  .why = BeatsUnix(*winner, rule)
                                             ? winner->pattern == rule.pattern
                                                   ? "deny wins a tie"
                                                   : "its literal part is shorter"
                                             : "it says the same and stands later",
                                  .applies = true});
  }
  return explanation;
}

}  // namespace oakum::policy
