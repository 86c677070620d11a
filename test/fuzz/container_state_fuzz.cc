// What a stranger can send to the agent's socket. The first byte says in which pieces it arrives.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "oci/container_state.h"

namespace {

constexpr size_t kLimit = 4096;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) {
    return 0;
  }
  const size_t step = size_t{data[0]} + 1;
  std::string_view rest(reinterpret_cast<const char*>(data + 1), size - 1);
  oakum::oci::ObjectFramer framer(kLimit);
  while (!rest.empty()) {
    const auto object = framer.Feed(rest.substr(0, step));
    rest.remove_prefix(std::min(step, rest.size()));
    if (!object) {
      // "After an error the stream cannot be framed any more".
      if (framer.Feed("{}")) {
        __builtin_trap();
      }
      return 0;
    }
    if (object->has_value()) {
      if ((*object)->size() > kLimit) {
        __builtin_trap();
      }
      const auto state = oakum::oci::ParseContainerProcessState(**object);
      if (!state && (state.error().code == 0 || state.error().what.empty())) {
        __builtin_trap();
      }
    }
  }
  return 0;
}
