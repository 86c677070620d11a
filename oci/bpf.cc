#include "oci/bpf.h"

#include <cstring>

namespace oakum::oci {

std::optional<uint32_t> RunBpf(const BpfProgram& program, const seccomp_data& data) {
  uint32_t accumulator = 0;
  size_t at = 0;
  while (at < program.size()) {
    const sock_filter& instruction = program[at++];
    const uint32_t k = instruction.k;
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
  return std::nullopt;
}

}  // namespace oakum::oci
