#include <seccomp.h>

#include <array>

#include "oci/seccomp_section.h"

namespace oakum::oci {

namespace {

// Architectures of the runtime specification (config-linux.md, "Seccomp", `architectures`).
constexpr std::array kArchs = std::to_array<SeccompArch>({
    {"SCMP_ARCH_X86_64", false, false, SCMP_ARCH_X86_64},
    {"SCMP_ARCH_X86", true, true, SCMP_ARCH_X86},
    {"SCMP_ARCH_X32", true, false, SCMP_ARCH_X32},
    {"SCMP_ARCH_AARCH64", false, false, SCMP_ARCH_AARCH64},
    {"SCMP_ARCH_ARM", true, false, SCMP_ARCH_ARM},
    {"SCMP_ARCH_RISCV64", false, false, SCMP_ARCH_RISCV64},
    {"SCMP_ARCH_PPC64LE", false, true, SCMP_ARCH_PPC64LE},
    {"SCMP_ARCH_PPC64", false, true, SCMP_ARCH_PPC64},
    {"SCMP_ARCH_PPC", true, true, SCMP_ARCH_PPC},
    {"SCMP_ARCH_S390X", false, true, SCMP_ARCH_S390X},
    {"SCMP_ARCH_S390", true, true, SCMP_ARCH_S390},
    {"SCMP_ARCH_MIPS", true, true, SCMP_ARCH_MIPS},
    {"SCMP_ARCH_MIPS64", false, false, SCMP_ARCH_MIPS64},
    {"SCMP_ARCH_MIPS64N32", true, false, SCMP_ARCH_MIPS64N32},
    {"SCMP_ARCH_MIPSEL", true, true, SCMP_ARCH_MIPSEL},
    {"SCMP_ARCH_MIPSEL64", false, false, SCMP_ARCH_MIPSEL64},
    {"SCMP_ARCH_MIPSEL64N32", true, false, SCMP_ARCH_MIPSEL64N32},
    {"SCMP_ARCH_PARISC", true, false, SCMP_ARCH_PARISC},
    {"SCMP_ARCH_PARISC64", false, false, SCMP_ARCH_PARISC64},
});

// Which architectures one kernel runs programs of, the native one first in each row.
constexpr std::array<std::array<std::string_view, 3>, 6> kCompatible = {{
    {"SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"},
    {"SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", ""},
    {"SCMP_ARCH_S390X", "SCMP_ARCH_S390", ""},
    {"SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32"},
    {"SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32"},
    {"SCMP_ARCH_PPC64", "SCMP_ARCH_PPC", ""},
}};

constexpr std::string_view kPrefix = "SCMP_ARCH_";

}  // namespace

const SeccompArch* FindArch(std::string_view token) {
  for (const SeccompArch& arch : kArchs) {
    if (arch.token == token || arch.token.substr(kPrefix.size()) == token) {
      return &arch;
    }
  }
  return nullptr;
}

const SeccompArch* NativeArch() {
  const uint32_t native = seccomp_arch_native();
  for (const SeccompArch& arch : kArchs) {
    if (arch.libseccomp == native) {
      return &arch;
    }
  }
  return nullptr;
}

std::vector<std::string> NativeAndCompatibleArchs() {
  std::vector<std::string> tokens;
  const SeccompArch* native = NativeArch();
  if (native == nullptr) {
    return tokens;
  }
  for (const auto& row : kCompatible) {
    if (row[0] == native->token) {
      for (const std::string_view token : row) {
        if (!token.empty()) {
          tokens.emplace_back(token);
        }
      }
      return tokens;
    }
  }
  tokens.emplace_back(native->token);
  return tokens;
}

}  // namespace oakum::oci
