// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ringmx::smtp {

// One whole reply of a server, possibly of several lines (RFC 5321 4.2).
struct Reply {
  std::string_view text;   // wire form, all lines, each ended by CRLF
  std::uint16_t code = 0;  // 200..599

  [[nodiscard]] bool positive() const noexcept { return code / 100 == 2; }
  [[nodiscard]] bool intermediate() const noexcept { return code / 100 == 3; }
  [[nodiscard]] bool transient() const noexcept { return code / 100 == 4; }
  [[nodiscard]] bool permanent() const noexcept { return code / 100 == 5; }
};

// Why a server's bytes are not a reply.
enum class ReplyFault : std::uint8_t {
  none,
  malformed,  // no three digits, code outside 200..599, codes differ between lines, bare CR or LF, NUL
  too_long,   // more than the limit
};

// Cuts the bytes of a server into replies. A reply that lies whole in the input is returned in
// place; one that straddles inputs is put together in a buffer of the reader's own that exists only
// while it is needed.
class ReplyReader {
 public:
  // `limit`: the longest reply in bytes, all lines and line ends included.
  explicit ReplyReader(std::uint32_t limit) noexcept : limit_(limit) {}

  // Reads the first reply of `input`. True: `reply` is it, and `consumed` are the bytes of `input`
  // it took; reply.text is valid until the next call of next(), and as long as `input`. False: all
  // input was swallowed (consumed = input.size()); either more is needed, or fault() says why there
  // will never be a reply: the connection is of no further use. next("") gives up the memory of a
  // reply that straddled.
  [[nodiscard]] bool next(std::string_view input, Reply& reply, std::size_t& consumed);

  [[nodiscard]] ReplyFault fault() const noexcept { return fault_; }
  // True while the beginning of a reply is held.
  [[nodiscard]] bool partial() const noexcept { return !whole_ && !held_.empty(); }

 private:
  enum class Expect : std::uint8_t { first_digit, second_digit, third_digit, separator, text, line_feed };
  enum class Verdict : std::uint8_t { more, whole, malformed };
  // Advances through `input` from `at` up to the end of the reply, or a fault, or of `input`.
  Verdict scan(std::string_view input, std::size_t& at) noexcept;
  bool fail(ReplyFault fault, std::string_view input, std::size_t& consumed) noexcept;

  std::string held_;  // the beginning of a reply; if whole_, the reply returned last
  std::uint32_t limit_;
  ReplyFault fault_ = ReplyFault::none;
  Expect expect_ = Expect::first_digit;
  bool whole_ = false;
  bool last_line_ = false;
  std::uint16_t code_ = 0;       // of the reply; 0: in its first line
  std::uint16_t line_code_ = 0;  // of this line, as far as it is read
};

}  // namespace ringmx::smtp
