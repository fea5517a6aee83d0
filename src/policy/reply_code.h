// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <algorithm>
#include <string_view>

namespace ringmx::policy {

constexpr bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

// "550": RFC 5321 4.2.
constexpr bool is_refusal_code(std::string_view s) noexcept {
  return s.size() == 3 && (s[0] == '4' || s[0] == '5') && s[1] >= '0' && s[1] <= '5' && is_digit(s[2]);
}

// "5.7.1": RFC 3463, of class 4 or 5.
constexpr bool is_status_code(std::string_view s) noexcept {
  if (s.size() < 5 || (s[0] != '4' && s[0] != '5') || s[1] != '.') return false;
  s.remove_prefix(2);
  const std::size_t dot = s.find('.');
  if (dot == s.npos) return false;
  const auto number = [](std::string_view n) {
    return !n.empty() && n.size() <= 3 && std::all_of(n.begin(), n.end(), is_digit);
  };
  return number(s.substr(0, dot)) && number(s.substr(dot + 1));
}

}  // namespace ringmx::policy
