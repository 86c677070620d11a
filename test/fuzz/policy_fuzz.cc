// Any bytes as a policy file: refused with places in it, or loaded; and what is loaded answers,
// explains and plans without a fault, each in agreement with the others.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>

#include "policy/explain.h"
#include "policy/plan.h"
#include "policy/policy_set.h"

namespace {

using oakum::policy::Carry;
using oakum::policy::Endpoint;
using oakum::policy::InetRequest;
using oakum::policy::IpAddress;
using oakum::policy::Operation;
using oakum::policy::Policy;
using oakum::policy::Transport;

void Require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

void Compare(const Policy& policy, const InetRequest& request) {
  const auto decision = policy.Decide(request);
  const auto explanation = oakum::policy::Explain(policy, request);
  Require(decision.verdict == explanation.verdict && decision.rule == explanation.rule &&
          decision.carry == explanation.carry && decision.proxy == explanation.proxy);
  Require(decision.carry != Carry::kProxy || decision.proxy != nullptr);
  Require(decision.carry == Carry::kDirect || policy.carries() ||
          policy.mode() == oakum::policy::Mode::kAudit);
}

void Ask(const Policy& policy) {
  const std::array<std::string, 2> names = {"www.example.com", "x.onion"};
  for (const Operation operation :
       {Operation::kConnect, Operation::kSend, Operation::kBind, Operation::kListen,
        Operation::kAccept, Operation::kSocket, Operation::kIoUring}) {
    for (const Transport transport : {Transport::kTcp, Transport::kUdp, Transport::kOther}) {
      for (const std::string_view text : {"10.1.2.3", "127.0.0.1", "127.0.0.11", "0.0.0.0",
                                          "::", "fd00::1", "64:ff9b::a01:203", "198.18.0.1"}) {
        for (const uint16_t port : std::array<uint16_t, 4>{0, 53, 443, 9050}) {
          const Endpoint endpoint{.ip = *IpAddress::Parse(text), .port = port};
          InetRequest request{.operation = operation,
                              .transport = transport,
                              .remote = endpoint,
                              .local = endpoint};
          for (const size_t known : {size_t{0}, names.size()}) {
            request.names = std::span(names).first(known);
            Compare(policy, request);
          }
        }
      }
    }
  }
  for (const std::string_view name : {"", "/run/docker.sock", "/a/b/c", "@x"}) {
    const oakum::policy::UnixRequest request{.operation = Operation::kConnect, .name = name};
    Require(policy.Decide(request).rule == oakum::policy::Explain(policy, request).rule);
  }
  Require(!oakum::policy::Plan(policy).syscalls.empty());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto set = oakum::policy::PolicySet::Parse(text, "fuzz");
  if (!set) {
    Require(!set.error().what.empty() && set.error().code != 0);
    return 0;
  }
  size_t asked = 0;
  for (const std::string& name : (*set)->names()) {
    if (++asked > 4) {
      break;
    }
    Ask(*(*set)->Find(name));
  }
  oakum::policy::ContainerFacts facts;
  facts.name = "web";
  facts.annotations["io.oakum.policy"] = "p";
  (void)(*set)->Match(facts);
  return 0;
}
