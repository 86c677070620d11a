// DNS messages as bytes (RFC 1035 section 4, RFC 3596, RFC 6891). Pure; what is read is bounded by
// the message, and no byte of it is looked at more often than a constant number of times.
#ifndef OAKUM_AGENT_DNS_MESSAGE_H_
#define OAKUM_AGENT_DNS_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "policy/address.h"

namespace oakum::agent::dns {

inline constexpr size_t kHeaderSize = 12;
inline constexpr size_t kMaxMessage = 65'535;  // the length before a message over TCP has 16 bits
inline constexpr size_t kMaxQuery = 4'096;     // of a container; no resolver's come near it
inline constexpr size_t kMaxPlainUdp = 512;    // RFC 1035 section 4.2.1
// What we send in one datagram and say that we take (RFC 6891 section 6.2.5).
inline constexpr size_t kMaxUdp = 4'096;

enum class Rcode : uint8_t {
  kNoError = 0,
  kFormErr = 1,
  kServFail = 2,
  kNxDomain = 3,
  kNotImp = 4,
  kRefused = 5,
  kBadVers = 16,  // RFC 6891 section 9: four bits of the header, the rest in the OPT record
};

// Types that mean something to us; others are numbers that are passed on.
inline constexpr uint16_t kTypeA = 1;
inline constexpr uint16_t kTypeCname = 5;
inline constexpr uint16_t kTypePtr = 12;
inline constexpr uint16_t kTypeAaaa = 28;
inline constexpr uint16_t kTypeOpt = 41;
inline constexpr uint16_t kTypeIxfr = 251;
inline constexpr uint16_t kTypeAxfr = 252;
inline constexpr uint16_t kClassIn = 1;

// A query as a server sees it.
struct Query {
  uint16_t id = 0;
  uint8_t opcode = 0;
  bool recursion_desired = false;
  bool checking_disabled = false;
  // The question's bytes as they came, upper and lower case included; empty where it could not be
  // read.
  std::string question;
  std::string wire_name;  // of the question: lower case, uncompressed, with the root's zero
  // The same as text, where it is a host name (HostName); else empty.
  std::string name;
  uint16_t type = 0;
  uint16_t query_class = 0;
  bool edns = false;
  bool dnssec_ok = false;
  uint16_t udp_size = kMaxPlainUdp;  // what the client takes in a datagram, at least 512
  // What a server answers without looking further: kFormErr for what cannot be read, has not
  // exactly one question (RFC 9619), two OPT records or bytes after its end; kNotImp for an opcode
  // other than QUERY; kBadVers.
  Rcode error = Rcode::kNoError;
};

// Nothing for what a server does not answer at all: shorter than a header, or no query (QR).
[[nodiscard]] std::optional<Query> ReadQuery(std::string_view bytes);

// How large an answer to `query` may be in a datagram.
[[nodiscard]] size_t UdpLimit(const Query& query);

struct Record {
  uint16_t type = 0;
  uint32_t ttl = 0;
  std::string data;  // uncompressed
};
[[nodiscard]] Record AddressRecord(const policy::IpAddress& ip, uint32_t ttl);
// Of a host name as in Query::name.
[[nodiscard]] Record PtrRecord(std::string_view name, uint32_t ttl);

// An answer whose records have the question's name. The question is repeated byte for byte, an OPT
// record follows where the query had one. Beyond `limit` bytes: no records and TC.
[[nodiscard]] std::string BuildAnswer(const Query& query, Rcode rcode,
                                      std::span<const Record> records, size_t limit);

// Somebody else's answer to `query` within `limit` bytes: as it is, or header and question with TC.
[[nodiscard]] std::string FitAnswer(const Query& query, std::string_view answer, size_t limit);

[[nodiscard]] uint16_t ReadId(std::string_view bytes);  // 0 when shorter than two bytes
void WriteId(std::string& bytes, uint16_t id);          // of at least two bytes

// What an answer says about its question.
struct Reply {
  uint16_t id = 0;
  Rcode rcode = Rcode::kNoError;
  bool truncated = false;
  std::string question;  // bytes as they came
  std::string name;      // as Query::name
  uint16_t type = 0;
  // A and AAAA records that the question's name leads to, through CNAMEs of the same answer.
  std::vector<policy::IpAddress> addresses;
  // The smallest of those records' and of the CNAMEs on the way.
  uint32_t ttl = 0;
};

// Nothing for what is not one whole answer (QR) to one question. Records of other names and types
// are passed over; at most kMaxCnames are followed.
inline constexpr size_t kMaxCnames = 16;
[[nodiscard]] std::optional<Reply> ReadReply(std::string_view bytes);

}  // namespace oakum::agent::dns

#endif  // OAKUM_AGENT_DNS_MESSAGE_H_
