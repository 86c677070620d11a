// What the checks of all parts of a policy file share. Private to policy/.
#ifndef OAKUM_POLICY_CHECK_CONTEXT_H_
#define OAKUM_POLICY_CHECK_CONTEXT_H_

#include <optional>
#include <span>
#include <string_view>

#include "policy/checked.h"
#include "policy/source.h"
#include "policy/syntax.h"

namespace oakum::policy {

class CheckContext {
 public:
  CheckContext(const Sources& sources, Diagnostics& diagnostics)
      : sources_(sources), diagnostics_(diagnostics) {}

  void Say(Location at, std::string_view what) { diagnostics_.Add(at, what); }
  void NotBuilt(Location at, std::string_view what);
  [[nodiscard]] Place PlaceOf(Location at) const;
  [[nodiscard]] const Sources& sources() const { return sources_; }

  // The index of the word in `words`; says so when it is none of them.
  std::optional<size_t> Choose(const std::optional<syntax::Text>& text, std::string_view key,
                               std::span<const std::string_view> words);

 private:
  const Sources& sources_;
  Diagnostics& diagnostics_;
};

}  // namespace oakum::policy

#endif  // OAKUM_POLICY_CHECK_CONTEXT_H_
