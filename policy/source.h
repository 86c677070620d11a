// The text of policy files, places in it, and what is wrong there.
#ifndef OAKUM_POLICY_SOURCE_H_
#define OAKUM_POLICY_SOURCE_H_

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace oakum::policy {

// A byte of one of the files; turned into a line and a column only when somebody is told.
struct Location {
  uint32_t file = 0;
  uint32_t offset = 0;
};

// From 1; columns count bytes.
struct Position {
  uint32_t line = 1;
  uint32_t column = 1;

  bool operator==(const Position&) const = default;
};

class Source {
 public:
  Source(std::string name, std::string text);

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::string_view text() const { return text_; }
  [[nodiscard]] Position At(uint32_t offset) const;

 private:
  std::string name_;
  std::string text_;
  std::vector<uint32_t> line_starts_;
};

// The files of one load. Texts stay where they are for as long as this lives.
class Sources {
 public:
  // Returns the number of the new file.
  uint32_t Add(std::string name, std::string text);
  [[nodiscard]] const Source& file(uint32_t number) const { return files_[number]; }
  [[nodiscard]] uint32_t size() const { return static_cast<uint32_t>(files_.size()); }
  // "FILE:LINE:COLUMN"
  [[nodiscard]] std::string Describe(Location at) const;

 private:
  std::deque<Source> files_;
};

// Collects what is wrong, so that an operator does not have to fix one line at a time.
class Diagnostics {
 public:
  // What is found beyond this many is counted, not kept.
  static constexpr size_t kMaxKept = 20;

  explicit Diagnostics(const Sources& sources) : sources_(sources) {}

  void Add(Location at, std::string_view what);
  [[nodiscard]] bool ok() const { return count_ == 0; }
  // EINVAL with one "FILE:LINE:COLUMN: what" a line, in the order of the files.
  [[nodiscard]] Error ToError() const;

 private:
  const Sources& sources_;
  struct Entry {
    Location at;
    std::string what;
  };
  std::vector<Entry> kept_;
  size_t count_ = 0;
};

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_SOURCE_H_
