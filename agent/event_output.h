// Where the lines of the event log go: a file, a FIFO, a device or the standard output.
#ifndef OAKUM_AGENT_EVENT_OUTPUT_H_
#define OAKUM_AGENT_EVENT_OUTPUT_H_

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Appends whole lines, as far as the other side takes them, and never waits for it by itself. Not
// thread-safe.
class EventOutput {
 public:
  // Opens `path` (created with mode 0640 if need be); "-" is the standard output. A FIFO without a
  // reader, and a disk that is full, is no error: it is tried again at each Write. Errors:
  // open(2)'s.
  [[nodiscard]] static Expected<EventOutput> Create(const std::string& path);

  // Takes lines, each with its "\n".
  void Append(std::string_view lines) { pending_.append(lines); }
  // A buffer to append lines to.
  [[nodiscard]] std::string& buffer() { return pending_; }
  // Bytes that are still to be written.
  [[nodiscard]] size_t pending() const { return pending_.size() - sent_; }

  // Writes what is pending in as few write(2) as the other side allows. Errors: EAGAIN when it
  // takes no more now (WaitWritable tells when), else open(2)'s or write(2)'s: what was not written
  // stays pending. One call does a bounded amount of work.
  [[nodiscard]] Expected<void> Write();
  // Waits until the other side takes more, at most `timeout_ms`.
  void WaitWritable(int timeout_ms) const;
  // Opens the path anew, for a file that was renamed away; a line of which a part was written is
  // written again from its start. On error the old file stays in use. Nothing to do for "-".
  [[nodiscard]] Expected<void> Reopen();
  // How many whole lines are pending.
  [[nodiscard]] size_t PendingLines() const;

 private:
  explicit EventOutput(std::string path) : path_(std::move(path)) {}
  [[nodiscard]] Expected<void> Open();
  [[nodiscard]] int fd() const { return is_stdout_ ? 1 : fd_.get(); }
  void Forget();

  std::string path_;
  bool is_stdout_ = false;
  bool may_block_ = false;   // the descriptor is not ours to make non-blocking
  bool start_line_ = false;  // the file ends in the middle of a line of somebody else
  UniqueFd fd_;
  std::string pending_;  // starts at the start of a line
  size_t sent_ = 0;      // bytes of it that are written
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_EVENT_OUTPUT_H_
