// FNV-1a: the same in every build, and no secret.
#ifndef OAKUM_BASE_FNV_H_
#define OAKUM_BASE_FNV_H_

#include <cstdint>
#include <string_view>

namespace oakum {

// Its 64 bits. For what chance does, not for who could choose the text.
[[nodiscard]] constexpr uint64_t Fnv1a(std::string_view text) {
  uint64_t hash = 0xcbf29ce484222325;
  for (const char byte : text) {
    hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001b3;
  }
  return hash;
}

}  // namespace oakum

#endif  // OAKUM_BASE_FNV_H_
