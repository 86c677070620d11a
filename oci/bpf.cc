#include "oci/bpf.h"

#include <cstddef>
#include <cstring>

namespace oakum::oci {

namespace {

enum class Until : bool { kArguments, kEnd };

// Runs the program on from `state`, and leaves there where it stops.
template <Until kUntil>
std::optional<uint32_t> Run(const BpfProgram& program, const seccomp_data& data, BpfState& state) {
  uint32_t accumulator = state.accumulator;
  size_t at = state.at;
  while (at < program.size()) {
    const sock_filter& instruction = program[at];
    const uint32_t k = instruction.k;
    if constexpr (kUntil == Until::kArguments) {
      const bool is_jump = BPF_CLASS(instruction.code) == BPF_JMP;
      const bool is_masking = instruction.code == (BPF_ALU | BPF_AND | BPF_K);
      const bool is_load_before =
          instruction.code == (BPF_LD | BPF_W | BPF_ABS) && k < offsetof(seccomp_data, args);
      if (!is_jump && !is_masking && !is_load_before) {
        state = {at, accumulator};
        return std::nullopt;
      }
    }
    ++at;
    bool taken = false;
    switch (instruction.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (k % 4 != 0 || k > sizeof(data) - 4) {
          return std::nullopt;
        }
        std::memcpy(&accumulator, reinterpret_cast<const char*>(&data) + k, 4);
        continue;
      case BPF_ALU | BPF_AND | BPF_K:
        accumulator &= k;
        continue;
      case BPF_RET | BPF_K:
        return k;
      case BPF_JMP | BPF_JA:
        if (k >= program.size() - at) {
          return std::nullopt;
        }
        at += k;
        continue;
      case BPF_JMP | BPF_JEQ | BPF_K:
        taken = accumulator == k;
        break;
      case BPF_JMP | BPF_JGT | BPF_K:
        taken = accumulator > k;
        break;
      case BPF_JMP | BPF_JGE | BPF_K:
        taken = accumulator >= k;
        break;
      case BPF_JMP | BPF_JSET | BPF_K:
        taken = (accumulator & k) != 0;
        break;
      default:
        return std::nullopt;
    }
    at += taken ? instruction.jt : instruction.jf;
  }
  state = {program.size(), 0};
  return std::nullopt;
}

}  // namespace

std::optional<uint32_t> RunBpf(const BpfProgram& program, const seccomp_data& data, BpfState from) {
  return Run<Until::kEnd>(program, data, from);
}

BpfState RunBpfToArguments(const BpfProgram& program, const seccomp_data& data) {
  BpfState state;  // the beginning, for what fails before: it will fail again
  (void)Run<Until::kArguments>(program, data, state);
  return state;
}

}  // namespace oakum::oci
