#include "policy/explain.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "policy/compiled.h"
#include "policy/destination.h"
#include "policy/glob.h"

namespace oakum::policy {

namespace {

std::string PlaceOf(const CompiledPolicy& policy, const Place& place) {
  return fmt::format("{}:{}", (*policy.files)[place.file], place.position.line);
}

constexpr std::string_view kAnywhereText = "the address stands for a name";

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

// One address alone before names, names before prefixes.
int Nearness(const AddressRule& rule) {
  constexpr int kName = 1000;
  constexpr int kSingle = 10000;
  if (!rule.domain.empty()) {
    return kName + static_cast<int>(NameRank(rule));
  }
  return rule.host.IsSingle() ? kSingle : rule.host.length;
}

bool CoversName(const AddressRule& rule, const std::string& name) {
  const std::string_view domain = rule.domain;
  return domain.starts_with("*.")
             ? name.size() >= domain.size() && std::string_view(name).ends_with(domain.substr(1))
             : name == domain;
}

bool Beats(const Candidate& a, const Candidate& b) {
  if (a.from_length != b.from_length) {
    return a.from_length > b.from_length;
  }
  const int nearness_a = Nearness(*a.rule);
  const int nearness_b = Nearness(*b.rule);
  return nearness_a != nearness_b ? nearness_a > nearness_b : BeatsAtSamePrefix(*a.rule, *b.rule);
}

std::string WhyLost(const Candidate& winner, const Candidate& loser) {
  const AddressRule& won = *winner.rule;
  const AddressRule& lost = *loser.rule;
  if (winner.from_length != loser.from_length) {
    return fmt::format("its \"from\" is wider (/{} against /{})", loser.from_length,
                       winner.from_length);
  }
  if (Nearness(won) != Nearness(lost)) {
    if (!won.domain.empty()) {
      return lost.domain.empty() ? "a rule for a name comes before one for a prefix"
                                 : "its name is less exact";
    }
    if (!lost.domain.empty()) {
      return won.host.IsSingle() ? "a rule for this address alone comes before one for a name"
                                 : "a name opens nothing that is denied by address";
    }
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

  Explanation Outgoing(const Destination& to) {
    if (!to.IsUnknown()) {
      AddAddresses(to);
      AddNames(to);
    }
    std::stable_sort(candidates_.begin(), candidates_.end(), Beats);
    const Candidate* winner = Winner();
    const Decision decision = Settle(
        policy_, to, winner != nullptr ? DecisionOf(*winner->rule) : WithoutRule(policy_, to));
    Explanation explanation = Tell(winner, decision);
    if (winner != nullptr && decision.verdict != winner->rule->verdict) {
      explanation.notes.push_back(to.synthetic && decision.verdict == Verdict::kRedirect
                                      ? "only the proxy can tell where the name leads"
                                      : "no proxy carries this protocol");
    }
    return explanation;
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
    std::stable_sort(candidates_.begin(), candidates_.end(), Beats);
    const Candidate* winner = Winner();
    return Tell(winner, winner != nullptr ? DecisionOf(*winner->rule)
                                          : Decision{.verdict = policy_.source.incoming_default,
                                                     .rule = policy_.incoming_default_text});
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

  void AddAddresses(const Destination& to) {
    for (const AddressRule& rule : policy_.source.outgoing) {
      if (!rule.host.Contains(to.ip)) {
        continue;
      }
      Candidate& candidate = Add(rule, request_.remote.port);
      if (!candidate.excluded.empty()) {
        continue;
      }
      if (to.anywhere && rule.host.length != 0) {
        candidate.excluded = kAnywhereText;
      } else if (to.closed && !CountsForDns(rule)) {
        candidate.excluded =
            fmt::format("dns is \"{}\" and it does not name port 53",
                        policy_.source.dns.rule == DnsRule::kProxy ? "proxy" : "deny");
      } else if (to.docker && !rule.host.IsSingle()) {
        candidate.excluded = "Docker's resolver is there, and it is not for that address alone";
      }
    }
  }

  void AddNames(const Destination& to) {
    for (const AddressRule& rule : policy_.source.outgoing_names) {
      if (std::ranges::none_of(request_.names,
                               [&](const std::string& name) { return CoversName(rule, name); })) {
        continue;
      }
      Candidate& candidate = Add(rule, request_.remote.port);
      if (!candidate.excluded.empty()) {
        continue;
      }
      if (to.closed && !CountsForDns(rule)) {
        candidate.excluded = "dns is \"proxy\" and it does not name port 53";
      } else if (to.docker) {
        candidate.excluded = "Docker's resolver is there, and it is not for that address alone";
      }
    }
  }

  // Of the candidates, sorted. A name opens nothing that is denied by address.
  const Candidate* Winner() {
    const auto first = [&](bool names) -> const Candidate* {
      const auto found = std::ranges::find_if(candidates_, [&](const Candidate& candidate) {
        return candidate.excluded.empty() && (names || candidate.rule->domain.empty());
      });
      return found == candidates_.end() ? nullptr : &*found;
    };
    const Candidate* winner = first(true);
    if (winner == nullptr || winner->rule->domain.empty() ||
        winner->rule->verdict == Verdict::kDeny) {
      return winner;
    }
    const Candidate* address = first(false);
    return address != nullptr && address->rule->verdict == Verdict::kDeny &&
                   address->rule->host.length != 0
               ? address
               : winner;
  }

  Explanation Tell(const Candidate* winner, const Decision& decision) {
    Explanation explanation;
    explanation.verdict = decision.verdict;
    explanation.rule = decision.rule;
    explanation.carry = decision.carry;
    explanation.proxy = decision.proxy;
    explanation.place = winner != nullptr ? PlaceOf(policy_, winner->rule->place) : "";
    for (const Candidate& candidate : candidates_) {
      if (&candidate == winner) {
        continue;
      }
      const bool applies = candidate.excluded.empty();
      explanation.others.push_back(
          {.rule = candidate.rule->text,
           .place = PlaceOf(policy_, candidate.rule->place),
           .why = applies ? WhyLost(*winner, candidate) : candidate.excluded,
           .applies = applies});
    }
    return explanation;
  }

  const CompiledPolicy& policy_;
  const InetRequest& request_;
  std::vector<Candidate> candidates_;
};

Explanation ExplainDestination(const CompiledPolicy& policy, const InetRequest& request) {
  std::vector<std::string> notes;
  const auto canonical = [&](const IpAddress& ip) {
    const IpAddress reached = CanonicalDestination(ip);
    if (reached != ip) {
      notes.push_back(fmt::format("{} as a destination is {}", ip.ToString(), reached.ToString()));
    }
    return reached;
  };
  const auto explain = [&](const IpAddress& ip) {
    return AddressExplainer(policy, request).Outgoing(Destination::Of(policy, ip, request));
  };
  const IpAddress ip = canonical(request.remote.ip);
  Explanation explanation = explain(ip);
  if (const auto embedded = EmbeddedV4(ip)) {
    notes.push_back(fmt::format("{} carries {}: the stricter decision of the two counts",
                                ip.ToString(), embedded->ToString()));
    const IpAddress inner = canonical(*embedded);
    Explanation carried = explain(inner);
    const auto answer = [](const Explanation& of) {
      return Decision{.verdict = of.verdict, .rule = of.rule, .carry = of.carry, .proxy = of.proxy};
    };
    if (IsStricter(answer(carried), answer(explanation))) {
      notes.push_back(fmt::format("for {} alone it would be: {}", ip.ToString(), explanation.rule));
      explanation = std::move(carried);
    }
  }
  explanation.notes.insert(explanation.notes.begin(), notes.begin(), notes.end());
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
          .carry = decision.carry,
          .proxy = decision.proxy,
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

Explanation ExplainName(const Policy& policy, const InetRequest& request, const std::string& name) {
  const CompiledPolicy& compiled = policy.compiled();
  const std::array<std::string, 1> names = {name};
  InetRequest named = request;
  named.names = names;
  // The address only says which family's rules for every address count.
  const DnsSettings& dns = compiled.source.dns;
  const bool synthetic =
      dns.rule == DnsRule::kProxy &&
      (dns.resolve == Resolve::kSynthetic ||
       (dns.resolve == Resolve::kTor && (name == "onion" || name.ends_with(".onion"))));
  const IpAddress any = IpAddress::FromV4({0, 0, 0, 0});
  Destination to = Destination::Of(compiled, any, named);
  to.synthetic = synthetic;
  to.anywhere = true;
  Explanation explanation = AddressExplainer(compiled, named).Outgoing(to);
  std::erase_if(explanation.others, [](const OtherRule& other) {
    return !other.applies && other.why == kAnywhereText;
  });
  if (!synthetic) {
    explanation.notes.emplace_back(
        "rules for its address may decide otherwise: ask for ADDRESS:PORT as NAME");
  }
  return explanation;
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
