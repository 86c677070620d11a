// Lines of a file that may still grow.
#ifndef OAKUM_CLI_LINE_READER_H_
#define OAKUM_CLI_LINE_READER_H_

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/unique_fd.h"

namespace oakum::cli {

// A longer line is cut into pieces, of which none is an event.
inline constexpr size_t kMaxLine = size_t{1} << 20;

class LineReader {
 public:
  using Take = std::function<void(std::string_view line)>;  // without its newline, never empty

  // "-" is the standard input. Errors: open(2)'s.
  [[nodiscard]] static Expected<LineReader> Open(const std::string& path);

  // Hands on all lines up to the present end; a part of a line stays for the next time.
  // Errors: read(2)'s.
  [[nodiscard]] Expected<void> Read(const Take& take);
  // Hands on what follows the last newline.
  void Finish(const Take& take);
  // From here on only what is new. Errors: lseek(2)'s.
  [[nodiscard]] Expected<void> SkipToEnd();
  // Opens the path anew when another file has taken it or when it was cut; call it after Read.
  // Errors: none for a path that is not there at the moment, else open(2)'s.
  [[nodiscard]] Expected<void> FollowRename(const Take& take);

 private:
  LineReader(std::string path, UniqueFd owned, int fd)
      : path_(std::move(path)), owned_(std::move(owned)), fd_(fd) {}

  std::string path_;
  UniqueFd owned_;
  int fd_;
  std::string rest_;
};

}  // namespace oakum::cli

#endif  // OAKUM_CLI_LINE_READER_H_
