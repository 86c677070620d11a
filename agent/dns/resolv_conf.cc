#include "agent/dns/resolv_conf.h"

#include <algorithm>
#include <charconv>
#include <optional>

#include "agent/dns/host_name.h"

namespace oakum::agent {

namespace {

constexpr std::string_view kBlank = " \t\r\f\v";
constexpr int kMaxNdots = 15;

// The next word of a line, taken from it; empty at its end.
std::string_view Word(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(kBlank), line.size()));
  const std::string_view word = line.substr(0, line.find_first_of(kBlank));
  line.remove_prefix(word.size());
  return word;
}

std::optional<std::string> Domain(std::string_view word) {
  if (word.ends_with('.')) {
    word.remove_suffix(1);
  }
  std::string domain(word);
  std::ranges::transform(domain, domain.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return dns::IsHostName(domain) ? std::optional(std::move(domain)) : std::nullopt;
}

void ReadLine(std::string_view line, ResolvConf& conf) {
  const std::string_view keyword = Word(line);
  if (keyword == "nameserver") {
    const std::string_view word = Word(line);
    const auto ip = policy::IpAddress::Parse(word.substr(0, word.find('%')));
    if (ip && conf.nameservers.size() < kMaxNameservers) {
      conf.nameservers.push_back(policy::CanonicalDestination(*ip));
    }
  } else if (keyword == "search" || keyword == "domain") {
    conf.search.clear();
    for (std::string_view word = Word(line); !word.empty(); word = Word(line)) {
      auto domain = Domain(word);
      if (domain && conf.search.size() < kMaxSearch) {
        conf.search.push_back(std::move(*domain));
      }
      if (keyword == "domain") {
        break;
      }
    }
  } else if (keyword == "options") {
    constexpr std::string_view kNdots = "ndots:";
    for (std::string_view word = Word(line); !word.empty(); word = Word(line)) {
      if (!word.starts_with(kNdots)) {
        continue;
      }
      word.remove_prefix(kNdots.size());
      int value = 0;
      const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
      if (error == std::errc::result_out_of_range) {
        value = kMaxNdots;
      } else if (error != std::errc() || value < 0) {
        continue;
      }
      conf.ndots = std::min(value, kMaxNdots);
    }
  }
}

bool IsLoopback(const policy::IpAddress& ip) {
  return ip.IsV4() ? ip.bytes()[12] == 127 : ip == policy::IpAddress::Parse("::1");
}

}  // namespace

ResolvConf ParseResolvConf(std::string_view text) {
  text = text.substr(0, kMaxResolvConf);
  ResolvConf conf;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    // A comment starts in the first column (resolv.conf(5)).
    if (!line.starts_with('#') && !line.starts_with(';')) {
      ReadLine(line, conf);
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (conf.nameservers.empty()) {
    conf.nameservers.push_back(policy::IpAddress::FromV4({127, 0, 0, 1}));
  }
  return conf;
}

std::vector<policy::IpAddress> TrustedServers(const ResolvConf& conf) {
  const auto docker = policy::IpAddress::FromV4({127, 0, 0, 11});
  std::vector<policy::IpAddress> trusted;
  std::ranges::copy_if(conf.nameservers, std::back_inserter(trusted),
                       [&](const auto& ip) { return !IsLoopback(ip) || ip == docker; });
  return trusted;
}

}  // namespace oakum::agent
