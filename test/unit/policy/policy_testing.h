// Helpers for tests of policies written as text.
#ifndef OAKUM_TEST_UNIT_POLICY_POLICY_TESTING_H_
#define OAKUM_TEST_UNIT_POLICY_POLICY_TESTING_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>

#include "policy/policy_set.h"

namespace oakum::policy::testing {

// A file with one policy "p" whose members, after "mode", are `members`.
inline std::string OnePolicy(std::string_view members, std::string_view mode = "enforce") {
  std::string text = R"({"version": 1, "proxies": {"tor": {"url": "socks5h://10.88.0.1:9050"}}, )"
                     R"("policies": {"p": {"mode": ")";
  text += mode;
  text += "\"";
  if (!members.empty()) {
    text += ", ";
    text += members;
  }
  return text + "}}}";
}

inline std::shared_ptr<const PolicySet> MustParse(std::string_view text) {
  auto set = PolicySet::Parse(text, "test.json");
  if (!set) {
    ADD_FAILURE() << set.error().what << "\nin: " << text;
    return nullptr;
  }
  return *set;
}

// The error of a text that must not load.
inline std::string ErrorOf(std::string_view text) {
  auto set = PolicySet::Parse(text, "test.json");
  return set ? "(loaded)" : set.error().what;
}

// The error without "FILE:LINE:COLUMN: ".
inline std::string WithoutPlace(const std::string& error) {
  const size_t space = error.find(": ");
  return space == std::string::npos ? error : error.substr(space + 2);
}

// The error of one policy, without its place. There is a proxy "tor".
inline std::string InPolicy(std::string_view members) {
  return WithoutPlace(ErrorOf(OnePolicy(members)));
}

inline IpAddress Ip(std::string_view text) {
  const auto address = IpAddress::Parse(text);
  EXPECT_TRUE(address.has_value()) << text;
  return address.value_or(IpAddress());
}

inline InetRequest Outgoing(std::string_view ip, uint16_t port,
                            Transport transport = Transport::kTcp,
                            Operation operation = Operation::kConnect) {
  return {.operation = operation,
          .transport = transport,
          .remote = {.ip = Ip(ip), .port = port},
          .local = {}};
}

inline InetRequest Local(Operation operation, std::string_view ip, uint16_t port,
                         Transport transport = Transport::kTcp) {
  return {.operation = operation,
          .transport = transport,
          .remote = {},
          .local = {.ip = Ip(ip), .port = port}};
}

inline InetRequest Accept(std::string_view local, uint16_t port, std::string_view peer) {
  return {.operation = Operation::kAccept,
          .transport = Transport::kTcp,
          .remote = {.ip = Ip(peer), .port = 40000},
          .local = {.ip = Ip(local), .port = port}};
}

}  // namespace oakum::policy::testing

#endif  // OAKUM_TEST_UNIT_POLICY_POLICY_TESTING_H_
