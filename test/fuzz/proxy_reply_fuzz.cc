// What proxies answer. The first byte chooses what is asked and in which pieces the rest comes.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "agent/proxy/handshake.h"

namespace oakum::agent {
namespace {

constexpr std::string_view kSecret = "s3cret-of-nobody";

std::unique_ptr<Handshake> Start(uint8_t how) {
  policy::ProxyUrl url;
  url.scheme = (how & 1) != 0 ? policy::ProxyScheme::kHttp : policy::ProxyScheme::kSocks5h;
  if ((how & 2) != 0) {
    url.user = kSecret;
    url.password = kSecret;
  }
  ProxyQuestion question;
  question.command = static_cast<ProxyCommand>(how >> 2 & 3);
  if (question.command != ProxyCommand::kResolvePtr) {
    question.target.name = "a.example";
  }
  question.target.address.port = 443;
  return StartHandshake(url, question);
}

void Check(bool holds) {
  if (!holds) {
    __builtin_trap();
  }
}

// What it comes to, in one line.
std::string Run(uint8_t how, std::string_view bytes, size_t piece, size_t& taken) {
  const auto handshake = Start(how);
  taken = 0;
  while (!handshake->over() && taken < bytes.size()) {
    handshake->Sent(handshake->to_send().size());
    const size_t wants = handshake->wants();
    Check(wants > 0);
    const std::string_view next = bytes.substr(taken, std::min(piece, wants));
    const size_t got = handshake->Take(next);
    Check(got > 0 && got <= next.size());
    Check(handshake->peeks() || handshake->over() || got == next.size());
    taken += got;
  }
  if (!handshake->over()) {
    handshake->Closed();
    Check(handshake->failure().has_value());
  }
  Check(handshake->wants() == 0);
  if (handshake->done()) {
    Check(!handshake->failure());
    return handshake->resolved_name() + HostAndPort("", handshake->bound());
  }
  Check(handshake->failure()->errno_value > 0);
  Check(handshake->failure()->text.find(kSecret) == std::string::npos);
  return handshake->failure()->text;
}

}  // namespace
}  // namespace oakum::agent

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using oakum::agent::Check;
  if (size == 0) {
    return 0;
  }
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  size_t whole = 0;
  size_t single = 0;
  // In whichever pieces it comes, it is the same answer.
  const std::string one = oakum::agent::Run(data[0], bytes, 1 + (data[0] >> 4) * 100U, whole);
  const std::string other = oakum::agent::Run(data[0], bytes, 1, single);
  Check(one == other);
  Check(whole >= single || one.empty());
  return 0;
}
