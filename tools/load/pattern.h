// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ringmx::load {

// A text with numbers to be filled in: "user%100n@d%5n.example.test".
//   %n   the message's number, from 0        %100n  that modulo 100
//   %r   the recipient's in its message      %s     the session's
//   %%   a percent sign
class Pattern {
 public:
  struct Numbers {
    std::uint64_t message = 0;
    std::uint64_t recipient = 0;
    std::uint64_t session = 0;
  };
  Pattern() = default;
  // Returns what is wrong, or nothing.
  [[nodiscard]] static std::optional<std::string> parse(std::string_view text, Pattern& out);
  [[nodiscard]] static Pattern literal(std::string text);
  void append(std::string& out, const Numbers& numbers) const;

 private:
  struct Piece {
    std::string before;
    char kind = 0;  // n, r, s; 0: none
    std::uint64_t modulo = 0;
  };
  std::vector<Piece> pieces_;
};

// Appends a number in decimal.
void append_number(std::string& out, std::uint64_t number);

}  // namespace ringmx::load
