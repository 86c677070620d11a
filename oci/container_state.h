// The container process state that a runtime sends with the notify descriptor.
#ifndef OAKUM_OCI_CONTAINER_STATE_H_
#define OAKUM_OCI_CONTAINER_STATE_H_

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::oci {

// "Container process state", runtime-spec config-linux.md. Unknown keys are ignored.
struct ContainerProcessState {
  std::string oci_version;
  std::vector<std::string> fd_names;  // names of the descriptors, in order: "seccompFd" is ours
  pid_t pid = 0;                      // 0 with crun 1.8 on exec
  std::string metadata;               // listenerMetadata
  std::string id;                     // state.id
  std::string status;                 // state.status
  pid_t init_pid = 0;                 // state.pid, 0 when absent
  std::string bundle;                 // state.bundle
  std::map<std::string, std::string> annotations;  // state.annotations
};

// The longest id: runc and crun have a directory of that name (NAME_MAX).
inline constexpr size_t kMaxContainerId = 255;

// Errors: EINVAL with "container process state:LINE:COLUMN: ..." or the key that is missing or has
// the wrong type.
[[nodiscard]] Expected<ContainerProcessState> ParseContainerProcessState(std::string_view json);

// Takes the seccomp notify descriptor out of `fds`, received with the state (SCM_RIGHTS, in the
// order of `fd_names`); the others stay. Errors: EPROTO when there are not as many descriptors as
// names, or not exactly one is named "seccompFd" (config-linux.md, "Container process state").
[[nodiscard]] Expected<UniqueFd> TakeSeccompFd(const std::vector<std::string>& fd_names,
                                               std::vector<UniqueFd>& fds);

// Finds where one JSON object ends in a byte stream that arrives in pieces of any size: runtimes
// send no length and may keep the connection open. Looks at each byte once.
class ObjectFramer {
 public:
  explicit ObjectFramer(size_t limit) : limit_(limit) {}
  // Takes the next bytes. Returns the whole text once the outermost object has closed, nothing
  // while it has not; then it is ready for another. Errors: EINVAL when the first byte that is not
  // white space is not '{', or when something other than white space follows the object in the same
  // piece; EMSGSIZE beyond `limit` (white space before the object counts). After an error the
  // stream cannot be framed any more: every further call returns an error.
  [[nodiscard]] Expected<std::optional<std::string>> Feed(std::string_view piece);
  // Whether some of an object has arrived.
  [[nodiscard]] bool started() const { return !text_.empty(); }
  // How much of it.
  [[nodiscard]] size_t size() const { return text_.size(); }

 private:
  size_t limit_;
  std::string text_;
  size_t received_ = 0;
  bool failed_ = false;
  size_t depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
};

}  // namespace oakum::oci

#endif  // OAKUM_OCI_CONTAINER_STATE_H_
