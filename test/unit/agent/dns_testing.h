// Queries and answers for the tests of agent/dns.
#ifndef OAKUM_TEST_UNIT_AGENT_DNS_TESTING_H_
#define OAKUM_TEST_UNIT_AGENT_DNS_TESTING_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/dns/host_name.h"
#include "agent/dns/message.h"
#include "policy/address.h"

namespace oakum::agent {

inline std::string Bytes16(unsigned value) {
  return {static_cast<char>(value >> 8 & 0xff), static_cast<char>(value & 0xff)};
}

inline std::string Bytes32(uint32_t value) {
  return Bytes16(value >> 16) + Bytes16(value & 0xffff);
}

inline std::string Wire(std::string_view name) { return dns::WireName(name).value(); }

inline std::string Header(unsigned id, unsigned flags, unsigned questions, unsigned answers = 0,
                          unsigned authorities = 0, unsigned additionals = 0) {
  return Bytes16(id) + Bytes16(flags) + Bytes16(questions) + Bytes16(answers) +
         Bytes16(authorities) + Bytes16(additionals);
}

inline std::string QuestionBytes(std::string_view name, unsigned type,
                                 unsigned query_class = dns::kClassIn) {
  return Wire(name) + Bytes16(type) + Bytes16(query_class);
}

inline std::string OptBytes(unsigned udp_size, unsigned version = 0, unsigned flags = 0) {
  return std::string(1, '\0') + Bytes16(dns::kTypeOpt) + Bytes16(udp_size) + Bytes16(version) +
         Bytes16(flags) + Bytes16(0);
}

inline std::string QueryBytes(unsigned id, std::string_view name, unsigned type,
                              unsigned udp_size = 0) {
  return Header(id, 0x0100, 1, 0, 0, udp_size != 0 ? 1 : 0) + QuestionBytes(name, type) +
         (udp_size != 0 ? OptBytes(udp_size) : "");
}

// Whatever owner and data; "" is a pointer to the question's name.
inline std::string RecordBytes(std::string_view owner, unsigned type, uint32_t ttl,
                               std::string_view data) {
  return (owner.empty() ? Bytes16(0xc00c) : Wire(owner)) + Bytes16(type) + Bytes16(dns::kClassIn) +
         Bytes32(ttl) + Bytes16(static_cast<unsigned>(data.size())) + std::string(data);
}

inline policy::IpAddress Ip(std::string_view text) {
  return policy::IpAddress::Parse(text).value();
}

inline std::string IpBytes(std::string_view text) { return dns::AddressRecord(Ip(text), 0).data; }

// An answer to `query` (made by QueryBytes without EDNS) with these records.
inline std::string AnswerBytes(std::string_view query, const std::vector<std::string>& records,
                               unsigned rcode = 0) {
  std::string out =
      Header(dns::ReadId(query), 0x8180 | rcode, 1, static_cast<unsigned>(records.size())) +
      std::string(query.substr(dns::kHeaderSize));
  for (const std::string& record : records) {
    out += record;
  }
  return out;
}

}  // namespace oakum::agent

#endif  // OAKUM_TEST_UNIT_AGENT_DNS_TESTING_H_
