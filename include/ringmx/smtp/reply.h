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
  // will never be a reply: the connection is of no further use.
  [[nodiscard]] bool next(std::string_view input, Reply& reply, std::size_t& consumed);

  [[nodiscard]] ReplyFault fault() const noexcept { return fault_; }
  // True while the beginning of a reply is held.
  [[nodiscard]] bool partial() const noexcept;

 private:
  // filled in by the implementer
  std::uint32_t limit_;
  ReplyFault fault_ = ReplyFault::none;
};

}  // namespace ringmx::smtp
