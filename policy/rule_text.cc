#include "policy/rule_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "base/error.h"
#include "policy/suggest.h"

namespace oakum::policy {

namespace {

constexpr size_t kMaxDomain = 253;  // RFC 1035 section 2.3.4, in presentation form
constexpr size_t kMaxLabel = 63;
constexpr std::array<std::string_view, 2> kProtocols = {"tcp", "udp"};

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsAlpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// A decimal number of at most `max`, without sign or leading zeros.
std::optional<uint32_t> ParseNumber(std::string_view text, uint32_t max) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value > max ||
      (text.size() > 1 && text[0] == '0')) {
    return std::nullopt;
  }
  return value;
}

// `address` with all bits beyond `length` (counted from the start of its family) cleared.
IpAddress Masked(const IpAddress& address, Family family, uint32_t length) {
  std::array<uint8_t, 16> bytes = address.bytes();
  const uint32_t keep = length + (family == Family::kV4 ? 96 : 0);
  for (uint32_t i = 0; i < 16; ++i) {
    const uint32_t bits = std::clamp<int>(static_cast<int>(keep) - static_cast<int>(i * 8), 0, 8);
    bytes[i] = static_cast<uint8_t>(bytes[i] & (0xff00U >> bits));
  }
  return IpAddress(bytes);
}

bool IsDomain(std::string_view name) {
  if (name.starts_with("*.")) {
    name.remove_prefix(2);
  }
  if (name.empty() || name.size() > kMaxDomain) {
    return false;
  }
  bool letter = false;
  while (!name.empty()) {
    const size_t dot = std::min(name.find('.'), name.size());
    const std::string_view label = name.substr(0, dot);
    const auto valid = [](char c) { return IsDigit(c) || IsAlpha(c) || c == '-' || c == '_'; };
    if (label.empty() || label.size() > kMaxLabel ||
        !std::all_of(label.begin(), label.end(), valid)) {
      return false;
    }
    letter = letter || std::any_of(label.begin(), label.end(), IsAlpha);
    name.remove_prefix(std::min(dot + 1, name.size()));
  }
  return letter;
}

class RuleParser {
 public:
  RuleParser(std::string_view text, RuleKind kind) : text_(text), rest_(text), kind_(kind) {}

  std::expected<ParsedRule, RuleError> Run() {
    if (!CheckSpace() || !ParseHost(rule_.host, rule_.domain) || !ParsePorts() ||
        !ParseProtocol() || !ParseFrom() || !ParseVia()) {
      return std::unexpected(std::move(error_));
    }
    if (!rest_.empty()) {
      Fail(fmt::format("\"{}\" is left over; a rule is HOST[:PORTS][/PROTOCOL]{}", Escape(rest_),
                       kind_ == RuleKind::kIncoming   ? "[ from HOST]"
                       : kind_ == RuleKind::kRedirect ? "[ via PROXY]"
                                                      : ""));
      return std::unexpected(std::move(error_));
    }
    return std::move(rule_);
  }

 private:
  bool Fail(std::string what) { return FailAt(rest_, std::move(what)); }
  bool FailAt(std::string_view where, std::string what) {
    error_ = {.offset = static_cast<size_t>(where.data() - text_.data()), .what = std::move(what)};
    return false;
  }

  bool CheckSpace() {
    if (text_.empty()) {
      return Fail("an empty rule; a rule is HOST[:PORTS][/PROTOCOL]");
    }
    const size_t space = text_.find_first_of(" \t\r\n");
    if (space == std::string_view::npos) {
      return true;
    }
    if (text_.substr(space).starts_with(" from ")) {
      return kind_ == RuleKind::kIncoming ||
             FailAt(text_.substr(space), "\"from\" belongs to incoming rules");
    }
    if (text_.substr(space).starts_with(" via ")) {
      return kind_ == RuleKind::kRedirect ||
             FailAt(text_.substr(space),
                    "\"via\" belongs to \"redirect\" rules: they alone go through a proxy");
    }
    return FailAt(text_.substr(space), "no spaces in a rule");
  }

  // Takes HOST from the rest: "*", an address or prefix, or a name.
  bool ParseHost(Prefix& host, std::string_view& domain) {
    if (rest_.starts_with('[')) {
      return ParseBracketed(host);
    }
    const size_t end = std::min(rest_.find_first_of(":/ "), rest_.size());
    const std::string_view word = rest_.substr(0, end);
    if (word == "*") {
      rest_.remove_prefix(1);
      return true;
    }
    if (const std::string_view whole = rest_.substr(0, rest_.find(' '));
        std::count(whole.begin(), whole.end(), ':') > 1) {
      return Fail(
          fmt::format("\"{}\": an IPv6 address stands in brackets, as in \"[fd00::1]:443\" "
                      "or \"[fd00::/8]\"",
                      Escape(whole)));
    }
    const auto address = IpAddress::Parse(word);
    if (!address) {
      return ParseDomain(word, domain);
    }
    std::optional<std::string_view> length;
    rest_.remove_prefix(end);
    if (rest_.size() > 1 && rest_[0] == '/' && !IsAlpha(rest_[1])) {
      length = rest_.substr(1, std::min(rest_.find_first_of(":/ ", 1), rest_.size()) - 1);
      rest_.remove_prefix(1 + length->size());
    }
    return SetPrefix(host, word, *address, length);
  }

  bool ParseBracketed(Prefix& host) {
    const size_t end = rest_.find(']');
    if (end == std::string_view::npos) {
      return Fail("\"[\" without \"]\"");
    }
    const std::string_view inside = rest_.substr(1, end - 1);
    const size_t slash = std::min(inside.find('/'), inside.size());
    const std::string_view word = inside.substr(0, slash);
    const auto address = IpAddress::Parse(word);
    if (word.find('%') != std::string_view::npos) {
      return FailAt(inside, "a scope (%) cannot be part of a rule");
    }
    if (!address || word.find(':') == std::string_view::npos) {
      return FailAt(inside, fmt::format("\"{}\" is not an IPv6 address", Escape(word)));
    }
    std::optional<std::string_view> length;
    if (slash < inside.size()) {
      length = inside.substr(slash + 1);
    }
    rest_.remove_prefix(end + 1);
    if (rest_.size() > 1 && rest_[0] == '/' && IsDigit(rest_[1])) {
      return Fail(fmt::format("the prefix length stands inside the brackets: \"[{}{}]\"", word,
                              rest_.substr(0, rest_.find_first_of(": ", 1))));
    }
    return SetPrefix(host, inside, *address, length);
  }

  bool SetPrefix(Prefix& host, std::string_view where, const IpAddress& address,
                 std::optional<std::string_view> length_text) {
    // A mapped prefix inside ::ffff:0:0/96 is an IPv4 prefix written the long way.
    const bool written_v6 = where.find(':') != std::string_view::npos;
    const uint32_t bits = written_v6 ? 128 : 32;
    uint32_t length = bits;
    if (length_text) {
      const auto parsed = ParseNumber(*length_text, bits);
      if (!parsed) {
        return FailAt(where, fmt::format("\"/{}\" is not a prefix length; 0 to {} are",
                                         Escape(*length_text), bits));
      }
      length = *parsed;
    }
    Family family = written_v6 ? Family::kV6 : Family::kV4;
    if (written_v6 && address.IsV4() && length >= 96) {
      family = Family::kV4;
      length -= 96;
    }
    const IpAddress masked = Masked(address, family, length);
    if (masked != address) {
      return FailAt(where, fmt::format("\"{}\" has bits set beyond its prefix; did you mean "
                                       "\"{}/{}\"?",
                                       Escape(where), masked.ToString(), length));
    }
    host = {.family = family, .length = static_cast<uint8_t>(length), .address = address};
    return true;
  }

  bool ParseDomain(std::string_view word, std::string_view& domain) {
    if (std::any_of(word.begin(), word.end(), [](char c) { return (c & 0x80) != 0; })) {
      return Fail(
          fmt::format("\"{}\": write an international name as DNS has it, as in "
                      "\"xn--mnchen-3ya.de\"",
                      Escape(word)));
    }
    if (!IsDomain(word)) {
      return Fail(fmt::format(
          "\"{}\" is neither an address, a prefix, a name, \"*.name\" nor \"*\"", Escape(word)));
    }
    domain = word;
    rest_.remove_prefix(word.size());
    return true;
  }

  bool ParsePorts() {
    if (!rest_.starts_with(':')) {
      return true;
    }
    rest_.remove_prefix(1);
    std::string_view list = rest_.substr(0, rest_.find_first_of("/ "));
    rest_.remove_prefix(list.size());
    if (list.empty()) {
      return Fail("no port after \":\"");
    }
    for (size_t items = 0;; ++items) {
      if (items == kMaxPortItems) {
        return FailAt(list, fmt::format("more than {} ports in one rule", kMaxPortItems));
      }
      const size_t comma = std::min(list.find(','), list.size());
      if (!ParsePortItem(list.substr(0, comma))) {
        return false;
      }
      if (comma == list.size()) {
        break;
      }
      list.remove_prefix(comma + 1);
    }
    MergePorts();
    return true;
  }

  bool ParsePortItem(std::string_view item) {
    const size_t dash = std::min(item.find('-'), item.size());
    const auto first = ParseNumber(item.substr(0, dash), 65535);
    const auto last = dash == item.size() ? first : ParseNumber(item.substr(dash + 1), 65535);
    if (!first || !last || *first == 0) {
      return FailAt(item, fmt::format("\"{}\" is neither a port (1 to 65535) nor a range such as "
                                      "\"8000-8999\"",
                                      Escape(item)));
    }
    if (*first > *last) {
      return FailAt(
          item, fmt::format("\"{}\" runs backwards; did you mean \"{}-{}\"?", item, *last, *first));
    }
    rule_.names_dns = rule_.names_dns || (*first == kDnsPort && *last == kDnsPort);
    rule_.ports.push_back(
        {.first = static_cast<uint16_t>(*first), .last = static_cast<uint16_t>(*last)});
    return true;
  }

  void MergePorts() {
    std::sort(rule_.ports.begin(), rule_.ports.end(),
              [](const PortRange& a, const PortRange& b) { return a.first < b.first; });
    std::vector<PortRange> merged;
    for (const PortRange& range : rule_.ports) {
      if (!merged.empty() && range.first <= merged.back().last + 1) {
        merged.back().last = std::max(merged.back().last, range.last);
      } else {
        merged.push_back(range);
      }
    }
    rule_.ports = std::move(merged);
  }

  bool ParseProtocol() {
    if (!rest_.starts_with('/')) {
      return true;
    }
    const std::string_view word = rest_.substr(1, rest_.find_first_of(" :/", 1) - 1);
    if (word == "tcp") {
      rule_.transport = Transport::kTcp;
    } else if (word == "udp") {
      rule_.transport = Transport::kUdp;
    } else {
      return Fail(
          fmt::format("unknown protocol \"{}\"{}", Escape(word), DidYouMean(word, kProtocols)));
    }
    rest_.remove_prefix(1 + word.size());
    return true;
  }

  bool ParseFrom() {
    static constexpr std::string_view kFrom = " from ";
    if (!rest_.starts_with(kFrom)) {
      return true;
    }
    rest_.remove_prefix(kFrom.size());
    if (rest_.empty()) {
      return Fail("no address after \"from\"");
    }
    return ParseHost(rule_.from.emplace(), rule_.from_domain);
  }

  bool ParseVia() {
    static constexpr std::string_view kVia = " via ";
    if (!rest_.starts_with(kVia)) {
      return true;
    }
    rest_.remove_prefix(kVia.size());
    rule_.via = rest_.substr(0, rest_.find(' '));
    if (rule_.via.empty()) {
      return Fail("no proxy after \"via\"");
    }
    rest_.remove_prefix(rule_.via.size());
    return true;
  }

  std::string_view text_;
  std::string_view rest_;
  RuleKind kind_;
  ParsedRule rule_;
  RuleError error_;
};

}  // namespace

bool Prefix::Contains(const IpAddress& candidate) const {
  switch (family) {
    case Family::kAny:
      return true;
    case Family::kV4:
      return candidate.IsV4() && Masked(candidate, family, length) == address;
    case Family::kV6:
      return !candidate.IsV4() && Masked(candidate, family, length) == address;
  }
  return false;
}

std::expected<ParsedRule, RuleError> ParseRule(std::string_view text, RuleKind kind) {
  return RuleParser(text, kind).Run();
}

std::string NormalName(std::string_view name) {
  if (name.ends_with('.')) {
    name.remove_suffix(1);
  }
  std::string normal(name);
  std::transform(normal.begin(), normal.end(), normal.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return normal;
}

}  // namespace oakum::policy
