// Seccomp sections that were merged and proven already, kept beside the agent's socket: most
// containers of a machine have their engine's default profile and one of a few policies, and the
// proof takes longer than all else that is done at a start.
#ifndef OAKUM_HOOK_MERGE_CACHE_H_
#define OAKUM_HOOK_MERGE_CACHE_H_

#include <optional>
#include <string>
#include <string_view>

#include "base/unique_fd.h"
#include "oci/seccomp_merge.h"
#include "oci/seccomp_plan.h"

namespace oakum::hook {

// Everything that a merge depends on: the section's text, the plan, the listener without its
// metadata, this program's file and the version of libseccomp.
[[nodiscard]] std::string MergeKey(std::string_view section, const oci::SeccompPlan& plan,
                                   const oci::ListenerConfig& listener);

class MergeCache {
 public:
  // Entries at most, and bytes of one with its key.
  static constexpr size_t kMaxEntries = 64;
  static constexpr size_t kMaxEntry = size_t{1} << 20;

  // The directory is believed, and its files are, only where they belong to this process's user and
  // nobody else can write to them. It is made when something is stored; where it cannot be, nothing
  // is kept, which costs time and nothing else.
  explicit MergeCache(std::string directory) : directory_(std::move(directory)) {}

  // What was stored for exactly this key.
  [[nodiscard]] std::optional<std::string> Find(std::string_view key) const;

  // The oldest entry makes room.
  void Store(std::string_view key, std::string_view value) const;

 private:
  // Invalid when it is not there, or not only ours.
  [[nodiscard]] UniqueFd Open() const;

  std::string directory_;
};

}  // namespace oakum::hook

#endif  // OAKUM_HOOK_MERGE_CACHE_H_
