// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/facts.h"

#include <algorithm>
#include <charconv>

namespace ringmx::policy {

namespace {

void append_number(std::string& out, unsigned n, int base) {
  std::array<char, 8> text{};
  out.append(text.data(), std::to_chars(text.data(), text.data() + text.size(), n, base).ptr);
}

}  // namespace

std::string text_of(const Address& address) {
  constexpr Address mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  constexpr std::size_t prefix = 12;
  std::string out;
  if (std::equal(mapped.begin(), mapped.begin() + prefix, address.begin())) {
    for (std::size_t i = prefix; i < address.size(); ++i) {
      if (i > prefix) out += '.';
      append_number(out, address[i], 10);
    }
    return out;
  }
  constexpr std::size_t groups = 8;
  const auto group = [&](std::size_t i) { return address[2 * i] * 256u + address[2 * i + 1]; };
  // "::" stands for the first one of the longest runs of zeros, but not for a single one (RFC 5952 4.2).
  std::size_t gap = groups;
  std::size_t gap_size = 1;
  for (std::size_t i = 0; i < groups; ++i) {
    std::size_t end = i;
    while (end < groups && group(end) == 0) ++end;
    if (end - i > gap_size) {
      gap = i;
      gap_size = end - i;
    }
  }
  for (std::size_t i = 0; i < groups; ++i) {
    if (i == gap) {
      out += "::";
      i += gap_size - 1;
      continue;
    }
    if (!out.empty() && !out.ends_with(':')) out += ':';
    append_number(out, group(i), 16);
  }
  return out;
}

std::string unquoted(std::string_view local_part) {
  std::string out;
  for (std::size_t i = 0; i < local_part.size(); ++i) {
    if (local_part[i] == '"') continue;
    if (local_part[i] == '\\' && i + 1 < local_part.size()) ++i;
    out += local_part[i];
  }
  return out;
}

}  // namespace ringmx::policy
