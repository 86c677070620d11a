// What an agent and its keeper read of each other's messages.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/kept/keeper_protocol.h"

namespace {

void Demand(bool promise) {
  if (!promise) {
    __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace oakum::agent;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto message = DecodeKeeperMessage(bytes);
  Demand(message || !message.error().what.empty());
  if (message) {
    Demand(message->name.size() <= kMaxKeptName && !message->name.contains('\0') &&
           message->fds.empty());
    const auto sent = EncodeKeeperMessage(message->word, message->name);
    Demand(sent.has_value() == (message->name.size() < kMaxKeptName));
    if (sent) {
      // Of this version, whatever was read.
      const auto again = DecodeKeeperMessage(*sent);
      Demand(again && again->version == kKeeperVersion && again->word == message->word &&
             again->name == message->name);
    }
  }
  // As a name, it is sent as a whole or not at all.
  const auto named = EncodeKeeperMessage(KeeperWord::kForget, bytes);
  Demand(named.has_value() == (size < kMaxKeptName && !bytes.contains('\0')));
  if (named) {
    const auto again = DecodeKeeperMessage(*named);
    Demand(again && again->name == bytes);
  }
  return 0;
}
