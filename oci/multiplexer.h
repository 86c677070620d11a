// System calls that carry others: socketcall(2) and ipc(2).
#ifndef OAKUM_OCI_MULTIPLEXER_H_
#define OAKUM_OCI_MULTIPLEXER_H_

#include <span>
#include <string_view>

namespace oakum::oci {

// For an architecture that has it (SeccompArch::has_multiplexers), libseccomp makes of each rule
// for one of `calls` a second one for the multiplexer, whose argument 0 is the call's number and
// whose other arguments are compared although they mean nothing there.
struct Multiplexer {
  std::string_view name;
  std::span<const std::string_view> calls;
};

// All of them.
[[nodiscard]] std::span<const Multiplexer> Multiplexers();
// The multiplexer of that name, or the one that carries the call; nullptr when there is none.
[[nodiscard]] const Multiplexer* FindMultiplexer(std::string_view name);
[[nodiscard]] const Multiplexer* MultiplexerOf(std::string_view call);

}  // namespace oakum::oci

#endif  // OAKUM_OCI_MULTIPLEXER_H_
