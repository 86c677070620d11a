// Where the lines of the event log go: a file, a FIFO, a device or the standard output.
#ifndef OAKUM_AGENT_EVENTS_EVENT_OUTPUT_H_
#define OAKUM_AGENT_EVENTS_EVENT_OUTPUT_H_

#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::agent {

// Appends whole lines, as far as the other side takes them, and never waits for it by itself. Each
// line comes once and whole: after a full disk it is gone on with where it was cut off; in a file
// that is left, the part is taken away again; in one that was emptied or deleted meanwhile, and for
// a reader that comes after another, it begins anew, with all that the other has left unread. Not
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
  // Opens the path anew, for a file that was renamed away. On error the old file stays in use.
  // Nothing to do for "-".
  [[nodiscard]] Expected<void> Reopen();
  // Takes back what the last reader of a FIFO has left behind, where there is none any more: it is
  // pending again. Write does so when it finds that out; a reader that comes before goes on where
  // the other one stopped, as with any pipe.
  void TakeBackUnread();
  // How many whole lines are pending.
  [[nodiscard]] size_t PendingLines() const;

 private:
  explicit EventOutput(std::string path) : path_(std::move(path)) {}
  [[nodiscard]] Expected<void> Open();
  [[nodiscard]] Expected<void> WriteSome();
  [[nodiscard]] int fd() const { return is_stdout_ ? 1 : fd_.get(); }
  // Writes the line that was being written from its start.
  void StartLineAnew();
  // Lets go of what need not be remembered of what was sent.
  void Forget();
  // The file that is open has been deleted or emptied: nobody would find the rest of a line in it.
  [[nodiscard]] Expected<void> CheckFile();

  std::string path_;
  bool is_stdout_ = false;
  bool may_block_ = false;  // the descriptor is not ours to make non-blocking
  bool is_file_ = false;    // a regular one
  bool is_fifo_ = false;
  bool start_line_ = false;  // the file ends in the middle of a line of somebody else
  UniqueFd fd_;
  std::string pending_;  // starts at the start of a line
  size_t sent_ = 0;      // bytes of it that are written; of a FIFO also what may be unread
};

}  // namespace oakum::agent

#endif  // OAKUM_AGENT_EVENTS_EVENT_OUTPUT_H_
