// What libfmt.so has beside its templates, for programs that are linked without it: the library's
// own definitions, and the instantiations that <fmt/core.h> and <fmt/format.h> declare as extern.
#include <fmt/format-inl.h>

#include <locale>

template std::locale fmt::detail::locale_ref::get<std::locale>() const;
template char fmt::detail::decimal_point_impl(fmt::detail::locale_ref);
template fmt::detail::thousands_sep_result<char> fmt::detail::thousands_sep_impl(
    fmt::detail::locale_ref);
