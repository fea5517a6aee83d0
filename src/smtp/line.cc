// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/line.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "ringmx/smtp/sasl.h"
#include "ringmx/smtp/scanner.h"

namespace ringmx::smtp {
namespace {

// Bytes allocated to hold the first `held` bytes of a line: few for a client that types, and never
// more than the limit for one that doesn't stop.
std::uint32_t capacity(std::uint32_t held, std::uint32_t limit) noexcept {
  return held == 0 ? 0 : std::min(limit, std::max(std::uint32_t{128}, std::bit_ceil(held)));
}

bool has_bare_cr(std::string_view bytes) noexcept {
  for (std::size_t cr = 0; (cr = bytes.find('\r', cr)) != bytes.npos; ++cr) {
    if (cr + 1 == bytes.size() || bytes[cr + 1] != '\n') return true;
  }
  return false;
}

}  // namespace

bool LineReader::peek(std::string_view input, Line& line, std::size_t& consumed) {
  if (rest_ == 0) {
    // Where does the line end?
    std::size_t end = 0;  // one past its LF
    do {
      const std::size_t lf = input.find('\n', end);
      if (lf == input.npos) {
        hold(input);
        consumed = input.size();
        return false;
      }
      end = lf + 1;
    } while (!bare_lf_ends_line_ && !(end > 1 ? input[end - 2] == '\r' : after_cr_));

    if (!partial()) {
      line = whole(input.substr(0, end));
      consumed = end;
      return true;
    }
    hold(input.substr(0, end));
    rest_ = end;
  }
  line = dropping_ ? Line{{}, LineFault::too_long} : whole({buffer_.get(), held_});
  consumed = rest_;
  return true;
}

// A line may be somebody's password.
void LineReader::drop_buffer() noexcept {
  wipe(buffer_.get(), held_);
  buffer_.reset();
}

void LineReader::consume() noexcept {
  drop_buffer();
  rest_ = 0;
  held_ = 0;
  dropping_ = false;
}

// What to make of the `bytes` of a line, its line end included.
Line LineReader::whole(std::string_view bytes) const noexcept {
  if (bytes.size() > limit_) return {{}, LineFault::too_long};

  const std::size_t crlf = bytes.size() > 1 && bytes[bytes.size() - 2] == '\r' ? 2 : 1;
  const std::string_view text = bytes.substr(0, bytes.size() - crlf);
  // No mark before the final LF (where there is one if that LF is bare, and allowed to be): no fault.
  if (find_mark(bytes, 'x') >= bytes.size() - 1) return {text, LineFault::none};
  if (text.find('\0') != text.npos) return {text, LineFault::nul};
  if (has_bare_cr(text)) return {text, LineFault::bare_cr};
  return {text, LineFault::bare_lf};
}

void LineReader::hold(std::string_view bytes) {
  if (bytes.empty()) return;
  after_cr_ = bytes.back() == '\r';
  if (dropping_) return;
  if (bytes.size() > limit_ - held_) {
    dropping_ = true;
    drop_buffer();
    held_ = 0;
    return;
  }
  const auto size = held_ + static_cast<std::uint32_t>(bytes.size());
  if (const std::uint32_t room = capacity(size, limit_); room > capacity(held_, limit_)) {
    std::unique_ptr<char[]> bigger(new char[room]);
    std::copy_n(buffer_.get(), held_, bigger.get());
    drop_buffer();
    buffer_ = std::move(bigger);
  }
  std::copy_n(bytes.data(), bytes.size(), buffer_.get() + held_);
  held_ = size;
}

}  // namespace ringmx::smtp
