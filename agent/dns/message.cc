#include "agent/dns/message.h"

#include <algorithm>
#include <array>
#include <utility>

#include "agent/dns/host_name.h"

namespace oakum::agent::dns {

namespace {

// Header bits (RFC 1035 section 4.1.1, RFC 4035 section 3.2).
constexpr uint16_t kResponse = 0x8000;
constexpr uint16_t kTruncated = 0x0200;
constexpr uint16_t kRecursionDesired = 0x0100;
constexpr uint16_t kRecursionAvailable = 0x0080;
constexpr uint16_t kCheckingDisabled = 0x0010;
constexpr int kOpcodeShift = 11;
constexpr uint16_t kOpcodeMask = 0xf;
constexpr uint16_t kRcodeMask = 0xf;
constexpr uint32_t kDnssecOk = 0x8000;  // in the TTL of an OPT record (RFC 3225)

constexpr uint8_t kPointer = 0xc0;
// A name has at most 127 labels, and each pointer leads to one more of them or to another pointer
// nearer to the start.
constexpr int kMaxPointers = 127;

uint8_t Byte(std::string_view bytes, size_t at) { return static_cast<uint8_t>(bytes[at]); }

uint16_t Get16(std::string_view bytes, size_t at) {
  return static_cast<uint16_t>(Byte(bytes, at) << 8 | Byte(bytes, at + 1));
}

uint32_t Get32(std::string_view bytes, size_t at) {
  return uint32_t{Get16(bytes, at)} << 16 | Get16(bytes, at + 2);
}

void Put16(std::string& out, uint16_t value) {
  out.push_back(static_cast<char>(value >> 8));
  out.push_back(static_cast<char>(value & 0xff));
}

void Put32(std::string& out, uint32_t value) {
  Put16(out, static_cast<uint16_t>(value >> 16));
  Put16(out, static_cast<uint16_t>(value & 0xffff));
}

// ASCII only, whatever the locale (RFC 4343).
char Lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Reads on through one message; every step fails once one has failed.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  [[nodiscard]] bool ok() const { return ok_; }
  [[nodiscard]] size_t at() const { return at_; }
  [[nodiscard]] bool AtEnd() const { return ok_ && at_ == bytes_.size(); }

  uint16_t U16() { return Take(2) ? Get16(bytes_, at_ - 2) : uint16_t{0}; }
  uint32_t U32() { return Take(4) ? Get32(bytes_, at_ - 4) : 0; }
  std::string_view Data(size_t size) {
    return Take(size) ? bytes_.substr(at_ - size, size) : std::string_view();
  }

  // A name in lower case, uncompressed. `pointers`: whether it may be compressed.
  std::string Name(bool pointers) {
    std::string name;
    size_t from = at_;
    size_t end = 0;  // after the name here; 0 as long as no pointer was followed
    size_t floor = at_;
    for (int followed = 0; ok_;) {
      if (from >= bytes_.size()) {
        break;
      }
      const uint8_t length = Byte(bytes_, from);
      if (length == 0) {
        name.push_back('\0');
        at_ = end != 0 ? end : from + 1;
        return name;
      }
      if (length <= kMaxLabel) {
        if (from + 1 + length > bytes_.size() || name.size() + 1 + length + 1 > kMaxWireName) {
          break;
        }
        name.push_back(static_cast<char>(length));
        std::transform(bytes_.begin() + static_cast<std::ptrdiff_t>(from + 1),
                       bytes_.begin() + static_cast<std::ptrdiff_t>(from + 1 + length),
                       std::back_inserter(name), Lower);
        from += 1 + length;
        continue;
      }
      // "A prior occurrence of the same name" (RFC 1035 section 4.1.4): only backwards, so that
      // there is no loop.
      if (!pointers || (length & kPointer) != kPointer || from + 2 > bytes_.size() ||
          ++followed > kMaxPointers) {
        break;
      }
      const size_t target = Get16(bytes_, from) & 0x3fff;
      if (target >= floor || target < kHeaderSize) {
        break;
      }
      end = end != 0 ? end : from + 2;
      floor = from = target;
    }
    ok_ = false;
    return {};
  }

 private:
  bool Take(size_t size) {
    ok_ = ok_ && bytes_.size() - at_ >= size;
    at_ += ok_ ? size : 0;
    return ok_;
  }

  std::string_view bytes_;
  size_t at_ = 0;
  bool ok_ = true;
};

struct Header {
  uint16_t id = 0;
  uint16_t flags = 0;
  uint16_t questions = 0;
  uint16_t answers = 0;
  uint16_t authorities = 0;
  uint16_t additionals = 0;
};

Header ReadHeader(Reader& reader) {
  Header header;
  header.id = reader.U16();
  header.flags = reader.U16();
  header.questions = reader.U16();
  header.answers = reader.U16();
  header.authorities = reader.U16();
  header.additionals = reader.U16();
  return header;
}

struct ReadRecord {
  std::string owner;
  uint16_t type = 0;
  uint16_t record_class = 0;
  uint32_t ttl = 0;
  std::string_view data;
  size_t data_at = 0;
};

ReadRecord NextRecord(Reader& reader) {
  ReadRecord record;
  record.owner = reader.Name(true);
  record.type = reader.U16();
  record.record_class = reader.U16();
  record.ttl = reader.U32();
  const uint16_t size = reader.U16();
  record.data_at = reader.at();
  record.data = reader.Data(size);
  return record;
}

// RFC 2181 section 8: with the highest bit set it counts as zero.
uint32_t Ttl(uint32_t value) { return value > INT32_MAX ? 0 : value; }

Rcode ToRcode(uint16_t value) {
  switch (value) {
    case 0:
      return Rcode::kNoError;
    case 1:
      return Rcode::kFormErr;
    case 3:
      return Rcode::kNxDomain;
    case 4:
      return Rcode::kNotImp;
    case 5:
      return Rcode::kRefused;
    default:
      return Rcode::kServFail;
  }
}

// What a query's records after its question say: an OPT record among them.
void ReadExtra(Reader& reader, const Header& header, Query& query) {
  const size_t before = size_t{header.answers} + header.authorities;
  const size_t count = before + header.additionals;
  for (size_t i = 0; i < count && reader.ok(); ++i) {
    const ReadRecord record = NextRecord(reader);
    if (!reader.ok() || record.type != kTypeOpt) {
      continue;
    }
    // RFC 6891 section 6.1.1: in the additional section, of the root's name, once.
    if (query.edns || i < before || record.owner.size() != 1) {
      query.error = Rcode::kFormErr;
      return;
    }
    query.edns = true;
    query.udp_size = std::max<uint16_t>(record.record_class, kMaxPlainUdp);
    query.dnssec_ok = (record.ttl & kDnssecOk) != 0;
    if (((record.ttl >> 16) & 0xff) != 0) {
      query.error = Rcode::kBadVers;
    }
  }
  if (!reader.AtEnd()) {
    query.error = Rcode::kFormErr;
  }
}

void PutOpt(std::string& out, const Query& query, Rcode rcode) {
  out.push_back('\0');
  Put16(out, kTypeOpt);
  Put16(out, kMaxUdp);
  Put32(out, uint32_t{static_cast<uint8_t>(rcode)} >> 4 << 24 | (query.dnssec_ok ? kDnssecOk : 0));
  Put16(out, 0);
}

constexpr size_t kOptSize = 11;

// Header and question of an answer.
std::string StartAnswer(const Query& query, uint16_t flags, uint16_t records) {
  std::string out;
  out.reserve(kHeaderSize + query.question.size() + kOptSize + size_t{records} * 28);
  Put16(out, query.id);
  Put16(out, flags);
  Put16(out, query.question.empty() ? 0 : 1);
  Put16(out, records);
  Put16(out, 0);
  Put16(out, query.edns ? 1 : 0);
  out += query.question;
  return out;
}

uint16_t AnswerFlags(const Query& query, Rcode rcode) {
  return static_cast<uint16_t>(
      kResponse | query.opcode << kOpcodeShift | (query.recursion_desired ? kRecursionDesired : 0) |
      kRecursionAvailable | (query.checking_disabled ? kCheckingDisabled : 0) |
      (static_cast<uint8_t>(rcode) & kRcodeMask));
}

}  // namespace

std::optional<Query> ReadQuery(std::string_view bytes) {
  if (bytes.size() < kHeaderSize || bytes.size() > kMaxMessage) {
    return std::nullopt;
  }
  Reader reader(bytes);
  const Header header = ReadHeader(reader);
  if ((header.flags & kResponse) != 0) {
    return std::nullopt;
  }
  Query query;
  query.id = header.id;
  query.opcode = header.flags >> kOpcodeShift & kOpcodeMask;
  query.recursion_desired = (header.flags & kRecursionDesired) != 0;
  query.checking_disabled = (header.flags & kCheckingDisabled) != 0;
  if (query.opcode != 0) {
    query.error = Rcode::kNotImp;
    return query;
  }
  if (header.questions != 1) {
    query.error = Rcode::kFormErr;
    return query;
  }
  std::string name = reader.Name(false);
  const uint16_t type = reader.U16();
  const uint16_t query_class = reader.U16();
  if (!reader.ok()) {
    query.error = Rcode::kFormErr;
    return query;
  }
  query.question = bytes.substr(kHeaderSize, reader.at() - kHeaderSize);
  query.wire_name = std::move(name);
  query.name = HostName(query.wire_name).value_or("");
  query.type = type;
  query.query_class = query_class;
  ReadExtra(reader, header, query);
  return query;
}

size_t UdpLimit(const Query& query) {
  return query.edns ? std::min<size_t>(query.udp_size, kMaxUdp) : kMaxPlainUdp;
}

Record AddressRecord(const policy::IpAddress& ip, uint32_t ttl) {
  const auto& bytes = ip.bytes();
  const size_t skip = ip.IsV4() ? 12 : 0;
  return {.type = ip.IsV4() ? kTypeA : kTypeAaaa,
          .ttl = ttl,
          .data = std::string(bytes.begin() + static_cast<std::ptrdiff_t>(skip), bytes.end())};
}

Record PtrRecord(std::string_view name, uint32_t ttl) {
  return {.type = kTypePtr, .ttl = ttl, .data = WireName(name).value_or(std::string(1, '\0'))};
}

std::string BuildAnswer(const Query& query, Rcode rcode, std::span<const Record> records,
                        size_t limit) {
  size_t size = kHeaderSize + query.question.size() + (query.edns ? kOptSize : 0);
  for (const Record& record : records) {
    size += 12 + record.data.size();
  }
  uint16_t flags = AnswerFlags(query, rcode);
  if (size > std::min(limit, kMaxMessage)) {
    records = {};
    flags |= kTruncated;
  }
  std::string out = StartAnswer(query, flags, static_cast<uint16_t>(records.size()));
  for (const Record& record : records) {
    Put16(out, uint16_t{kPointer} << 8 | kHeaderSize);  // the question's name
    Put16(out, record.type);
    Put16(out, kClassIn);
    Put32(out, record.ttl);
    Put16(out, static_cast<uint16_t>(record.data.size()));
    out += record.data;
  }
  if (query.edns) {
    PutOpt(out, query, rcode);
  }
  return out;
}

std::string FitAnswer(const Query& query, std::string_view answer, size_t limit) {
  if (answer.size() <= limit || answer.size() < kHeaderSize) {
    return std::string(answer);
  }
  std::string out = StartAnswer(query, Get16(answer, 2) | kTruncated, 0);
  if (query.edns) {
    PutOpt(out, query, Rcode::kNoError);
  }
  return out;
}

uint16_t ReadId(std::string_view bytes) { return bytes.size() < 2 ? 0 : Get16(bytes, 0); }

void WriteId(std::string& bytes, uint16_t id) {
  bytes[0] = static_cast<char>(id >> 8);
  bytes[1] = static_cast<char>(id & 0xff);
}

std::optional<Reply> ReadReply(std::string_view bytes) {
  if (bytes.size() < kHeaderSize || bytes.size() > kMaxMessage) {
    return std::nullopt;
  }
  Reader reader(bytes);
  const Header header = ReadHeader(reader);
  if ((header.flags & kResponse) == 0 || header.questions != 1) {
    return std::nullopt;
  }
  Reply reply;
  reply.id = header.id;
  reply.rcode = ToRcode(header.flags & kRcodeMask);
  reply.truncated = (header.flags & kTruncated) != 0;
  const std::string asked = reader.Name(false);
  reply.type = reader.U16();
  (void)reader.U16();
  if (!reader.ok()) {
    return std::nullopt;
  }
  reply.question = bytes.substr(kHeaderSize, reader.at() - kHeaderSize);
  reply.name = HostName(asked).value_or("");

  struct Cname {
    std::string owner, target;
    uint32_t ttl;
  };
  struct Address {
    std::string owner;
    policy::IpAddress ip;
    uint32_t ttl;
  };
  std::vector<Cname> cnames;
  std::vector<Address> addresses;
  for (size_t i = 0; i < header.answers; ++i) {
    ReadRecord record = NextRecord(reader);
    if (!reader.ok()) {
      return std::nullopt;
    }
    if (record.record_class != kClassIn) {
      continue;
    }
    if (record.type == kTypeCname && cnames.size() < kMaxCnames) {
      // Its name may point before it; what follows it is of no concern here.
      Reader target(bytes.substr(0, record.data_at + record.data.size()));
      (void)target.Data(record.data_at);
      std::string name = target.Name(true);
      if (!target.AtEnd()) {
        return std::nullopt;
      }
      cnames.push_back({std::move(record.owner), std::move(name), Ttl(record.ttl)});
    } else if (record.type == kTypeA && record.data.size() == 4) {
      std::array<uint8_t, 4> ip{};
      std::copy(record.data.begin(), record.data.end(), ip.begin());
      addresses.push_back(
          {std::move(record.owner), policy::IpAddress::FromV4(ip), Ttl(record.ttl)});
    } else if (record.type == kTypeAaaa && record.data.size() == 16) {
      std::array<uint8_t, 16> ip{};
      std::copy(record.data.begin(), record.data.end(), ip.begin());
      addresses.push_back({std::move(record.owner), policy::IpAddress(ip), Ttl(record.ttl)});
    }
  }
  std::string at = asked;
  uint32_t ttl = INT32_MAX;
  for (size_t hops = 0; hops < cnames.size(); ++hops) {
    const auto next = std::ranges::find(cnames, at, &Cname::owner);
    if (next == cnames.end()) {
      break;
    }
    at = next->target;
    ttl = std::min(ttl, next->ttl);
  }
  for (const Address& address : addresses) {
    if (address.owner == at) {
      reply.addresses.push_back(address.ip);
      ttl = std::min(ttl, address.ttl);
    }
  }
  reply.ttl = reply.addresses.empty() ? 0 : ttl;
  return reply;
}

}  // namespace oakum::agent::dns
