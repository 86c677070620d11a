#include "policy/errno_name.h"

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

namespace oakum::policy {

namespace {

// Second names of numbers, which strerrorname_np(3) does not give.
constexpr std::array kSecondNames =
    std::to_array<std::pair<std::string_view, int>>({{"EWOULDBLOCK", EWOULDBLOCK},
                                                     {"EDEADLOCK", EDEADLOCK},
                                                     {"EOPNOTSUPP", EOPNOTSUPP},
                                                     {"ENOTSUP", ENOTSUP}});

}  // namespace

std::string_view ErrnoName(int value) {
  const char* name = value > 0 && value <= kMaxErrno ? strerrorname_np(value) : nullptr;
  return name == nullptr ? std::string_view() : name;
}

std::vector<std::string_view> ErrnoNames() {
  std::vector<std::string_view> names;
  for (int value = 1; value <= kMaxErrno; ++value) {
    if (const std::string_view name = ErrnoName(value); !name.empty()) {
      names.push_back(name);
    }
  }
  for (const auto& [name, value] : kSecondNames) {
    names.push_back(name);
  }
  return names;
}

std::optional<int> ErrnoOf(std::string_view name) {
  for (const auto& [second, value] : kSecondNames) {
    if (second == name) {
      return value;
    }
  }
  for (int value = 1; value <= kMaxErrno; ++value) {
    if (!name.empty() && ErrnoName(value) == name) {
      return value;
    }
  }
  return std::nullopt;
}

}  // namespace oakum::policy
