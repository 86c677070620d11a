// What an agent finds of the one before it: a session's state and the files that it remembers. The
// first byte says which.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/kept/kept_state.h"

namespace {

void Demand(bool promise) {
  if (!promise) {
    __builtin_trap();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace oakum::agent;
  if (size == 0) {
    return 0;
  }
  const std::string_view text(reinterpret_cast<const char*>(data + 1), size - 1);
  if ((data[0] & 1) != 0) {
    const auto files = DecodeRemembered(text);
    Demand(files || !files.error().what.empty());
    if (files) {
      // What was taken is written and taken again.
      const auto again = DecodeRemembered(EncodeRemembered(*files));
      Demand(again && again->size() == files->size());
    }
    return 0;
  }
  const auto state = DecodeKeptState(text);
  Demand(state || !state.error().what.empty());
  if (state) {
    const auto again = DecodeKeptState(EncodeKeptState(*state));
    Demand(again && again->container.id == state->container.id &&
           again->container.annotations == state->container.annotations &&
           again->policy == state->policy && again->resolv_conf == state->resolv_conf);
  }
  return 0;
}
