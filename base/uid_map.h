// /proc/PID/uid_map (user_namespaces(7)).
#ifndef OAKUM_BASE_UID_MAP_H_
#define OAKUM_BASE_UID_MAP_H_

#include <cstdint>
#include <string_view>
#include <vector>

namespace oakum {

// One line: `count` ids from `inside` on are those from `outside` on to the reader of the file.
struct UidRange {
  uint64_t inside = 0;
  uint64_t outside = 0;
  uint64_t count = 0;

  bool operator==(const UidRange&) const = default;
};

// The lines up to the first that is not three numbers. Without a stream: the first one of a process
// makes all facets of its locale, which a program that starts with every container pays for.
[[nodiscard]] std::vector<UidRange> ParseUidMap(std::string_view text);

}  // namespace oakum

#endif  // OAKUM_BASE_UID_MAP_H_
