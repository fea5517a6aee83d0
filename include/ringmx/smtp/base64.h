// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace ringmx::smtp {

// RFC 4648 section 4, and nothing else: no line ends, no other alphabet, padded to whole groups, with bits
// of 0 where the padding leaves some. So each string of octets has one encoding.

// The most octets that `size` characters can stand for.
[[nodiscard]] constexpr std::size_t decoded_size(std::size_t size) noexcept {
  return size / 4 * 3;
}
// Writes the octets that `text` stands for to `out`, which has room for decoded_size(), and returns how many
// they are; nothing if it is no base64.
[[nodiscard]] std::optional<std::size_t> decode_base64(std::string_view text, char* out) noexcept;
void append_base64(std::string& out, std::string_view octets);

}  // namespace ringmx::smtp
