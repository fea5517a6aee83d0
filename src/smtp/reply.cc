// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/reply.h"

#include <algorithm>

// A byte is looked at once, however the stream is cut: the place in the line is kept between calls
// instead of scanning the held part again. So a server that sends a byte per segment costs no more
// than one that does not, and the answer can't depend on where the segments end.

namespace ringmx::smtp {

ReplyReader::Verdict ReplyReader::scan(std::string_view input, std::size_t& at) noexcept {
  while (at < input.size()) {
    const char c = input[at];
    const bool digit = c >= '0' && c <= '9';
    switch (expect_) {
      case Expect::first_digit:
        if (c < '2' || c > '5') return Verdict::malformed;
        line_code_ = static_cast<std::uint16_t>(c - '0');
        expect_ = Expect::second_digit;
        break;
      case Expect::second_digit:
      case Expect::third_digit:
        if (!digit) return Verdict::malformed;
        line_code_ = static_cast<std::uint16_t>(line_code_ * 10 + (c - '0'));
        if (expect_ == Expect::second_digit) {
          expect_ = Expect::third_digit;
          break;
        }
        if (code_ != 0 && line_code_ != code_) return Verdict::malformed;
        code_ = line_code_;
        expect_ = Expect::separator;
        break;
      case Expect::separator:
        if (c != ' ' && c != '-' && c != '\r') return Verdict::malformed;
        last_line_ = c != '-';
        expect_ = c == '\r' ? Expect::line_feed : Expect::text;
        break;
      case Expect::text: {
        const auto stops = [](char t) { return t == '\r' || t == '\n' || t == '\0'; };
        const auto* const stop = std::find_if(input.data() + at, input.data() + input.size(), stops);
        at = static_cast<std::size_t>(stop - input.data());
        if (at == input.size()) return Verdict::more;
        if (*stop != '\r') return Verdict::malformed;
        expect_ = Expect::line_feed;
        break;
      }
      case Expect::line_feed:
        if (c != '\n') return Verdict::malformed;
        expect_ = Expect::first_digit;
        if (last_line_) {
          ++at;
          return Verdict::whole;
        }
        break;
    }
    ++at;
  }
  return Verdict::more;
}

bool ReplyReader::fail(ReplyFault fault, std::string_view input, std::size_t& consumed) noexcept {
  fault_ = fault;
  std::string().swap(held_);
  consumed = input.size();
  return false;
}

bool ReplyReader::next(std::string_view input, Reply& reply, std::size_t& consumed) {
  if (whole_) {
    std::string().swap(held_);
    whole_ = false;
  }
  if (fault_ != ReplyFault::none) return fail(fault_, input, consumed);

  const std::string_view allowed = input.substr(0, limit_ - held_.size());
  consumed = 0;
  switch (scan(allowed, consumed)) {
    case Verdict::malformed:
      return fail(ReplyFault::malformed, input, consumed);
    case Verdict::more:
      if (allowed.size() < input.size()) return fail(ReplyFault::too_long, input, consumed);
      held_.append(input);
      return false;
    case Verdict::whole:
      break;
  }
  reply.code = code_;
  reply.text = input.substr(0, consumed);
  if (!held_.empty()) {
    held_.append(reply.text);
    reply.text = held_;
    whole_ = true;
  }
  code_ = 0;
  return true;
}

}  // namespace ringmx::smtp
