// A policy file: whatever is accepted can be planned and decided by.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "policy/plan.h"
#include "policy/policy_set.h"

namespace {

using oakum::policy::InetRequest;
using oakum::policy::IpAddress;
using oakum::policy::Operation;
using oakum::policy::Policy;
using oakum::policy::Transport;
using oakum::policy::UnixRequest;

void Ask(const Policy& policy) {
  for (const char* text : {"127.0.0.1", "10.1.2.3", "::1", "64:ff9b::10.1.2.3", "ff02::1"}) {
    const auto address = IpAddress::Parse(text);
    if (!address) {
      __builtin_trap();
    }
    for (const Operation operation : {Operation::kConnect, Operation::kSend, Operation::kBind,
                                      Operation::kListen, Operation::kAccept}) {
      const InetRequest request = {.operation = operation,
                                   .transport = Transport::kTcp,
                                   .remote = {.ip = *address, .port = 443},
                                   .local = {.ip = *address, .port = 8080}};
      if (policy.Decide(request).rule.empty()) {
        __builtin_trap();
      }
    }
  }
  if (policy.Decide(UnixRequest{.operation = Operation::kConnect, .name = "/run/x.sock"})
          .rule.empty()) {
    __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto set = oakum::policy::PolicySet::Parse(text, "fuzz");
  if (!set) {
    if (set.error().what.empty()) {
      __builtin_trap();
    }
    return 0;
  }
  for (const std::string& name : (*set)->names()) {
    const Policy* policy = (*set)->Find(name);
    if (policy == nullptr || oakum::policy::Plan(*policy).syscalls.empty()) {
      __builtin_trap();
    }
    Ask(*policy);
  }
  return 0;
}
