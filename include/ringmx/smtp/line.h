// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

namespace ringmx::smtp {

// What is wrong with a command line as a line, before anybody asks which command it is. A line with
// several faults is reported as the first of: too_long, nul, bare_cr, bare_lf.
enum class LineFault : std::uint8_t {
  none,
  too_long,  // longer than the limit; its bytes were dropped up to its end
  bare_lf,   // ended by LF alone where that is not allowed
  bare_cr,   // holds a CR that no LF follows
  nul,       // holds a NUL
};

struct Line {
  std::string_view text;  // without the line end; empty if fault is too_long
  LineFault fault = LineFault::none;
};

// Cuts a stream into command lines (RFC 5321 2.3.8: CRLF and nothing else). A line that lies whole
// in the input is returned in place; one that straddles inputs is put together in a buffer of the
// reader's own, which exists only while it is needed, so an idle reader costs a few words.
//
// A bare LF ends a line only where `bare_lf_ends_line` is set (lenient). Where it is not, the line
// goes on to the next CRLF and is then reported whole as LineFault::bare_lf: one line never becomes
// two commands. The same for a bare CR, always.
//
// A line over the limit is dropped as it comes, whatever its length, and ends where any other would.
class LineReader {
 public:
  // `limit`: the longest line, in bytes, its line end included; 2 to 2^31.
  LineReader(std::uint32_t limit, bool bare_lf_ends_line) noexcept
      : limit_(limit), bare_lf_ends_line_(bare_lf_ends_line) {}
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader() { drop_buffer(); }

  // Looks for a line at the front of `input`. If there is a whole one: puts it into `line`, sets
  // `consumed` to the bytes of `input` that it took, returns true; line.text points into `input` or
  // into the reader and is valid until consume() (which the caller calls when it has acted on the
  // line; until then peek() with the same input gives the same answer).
  // If there is none: swallows all of `input` (sets consumed = input.size()) and returns false.
  [[nodiscard]] bool peek(std::string_view input, Line& line, std::size_t& consumed);

  // Done with the line that peek() returned.
  void consume() noexcept;

  // True while the beginning of a line is held or was dropped, and until consume() when peek() has
  // found its end.
  [[nodiscard]] bool partial() const noexcept { return held_ > 0 || dropping_; }

 private:
  [[nodiscard]] Line whole(std::string_view bytes) const noexcept;
  void hold(std::string_view bytes);
  void drop_buffer() noexcept;

  std::unique_ptr<char[]> buffer_;  // the first held_ bytes of the line at hand
  std::size_t rest_ = 0;            // bytes of input that completed it; 0: not complete yet
  std::uint32_t held_ = 0;
  std::uint32_t limit_;
  bool bare_lf_ends_line_;
  bool after_cr_ = false;  // the input swallowed so far ends with CR
  bool dropping_ = false;  // the line is over the limit already
};

}  // namespace ringmx::smtp
