// What names were told to a container, in memory that outlives the agent.
#ifndef OAKUM_AGENT_DNS_NAMES_FILE_H_
#define OAKUM_AGENT_DNS_NAMES_FILE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"
#include "policy/address.h"

namespace oakum::agent {

// Records, one after the other, each there as a whole or not at all. Not thread-safe.
class NamesFile {
 public:
  // The layout of the file; an agent goes on with no other.
  static constexpr uint32_t kVersion = 1;
  // Beyond it, and beyond twice what is worth keeping, the records are written anew.
  static constexpr uint32_t kRewriteAbove = 256 * 1024;
  static constexpr size_t kMaxName = 253;
  // All records: what is worth keeping (Names::kMaxSynthetic, kMaxLearned) takes a third of it.
  static constexpr uint32_t kMaxSize = uint32_t{64} << 20;

  struct Record {
    std::string_view name;
    policy::IpAddress ip;  // a synthetic one, or one that was learned
    int64_t until_ns = 0;  // CLOCK_REALTIME; 0: synthetic
  };

  // An empty one (memfd_create(2)); an invalid descriptor when there is none to be had.
  [[nodiscard]] static UniqueFd Make();
  // Whether a descriptor is one, of whatever version.
  [[nodiscard]] static bool IsOne(int fd);
  // Errors: EINVAL when it is none, or damaged; ENOTSUP for another version.
  [[nodiscard]] static Expected<NamesFile> Open(UniqueFd file);

  // Calls `take` with each record in the order in which they were written; stops at one that is
  // damaged.
  void Read(const std::function<void(const Record&)>& take) const;
  // What cannot be written is not kept.
  void Append(const Record& record);
  // Whether it is time to Rewrite(), when `live` bytes of records are worth keeping.
  [[nodiscard]] bool WantsRewrite(size_t live) const;
  // Replaces all records by what `give` passes on.
  void Rewrite(const std::function<void(const std::function<void(const Record&)>&)>& give);
  // The size of a record.
  [[nodiscard]] static size_t SizeOf(std::string_view name);

 private:
  struct Place {
    uint32_t begin;
    uint32_t end;
  };
  NamesFile(UniqueFd file, Place place) : file_(std::move(file)), place_(place) {}
  void SetPlace(Place place);

  UniqueFd file_;
  Place place_;
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_DNS_NAMES_FILE_H_
