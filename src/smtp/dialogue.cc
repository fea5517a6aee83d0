// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/dialogue.h"

#include <cassert>

namespace ringmx::smtp {

std::string_view stage_name(Stage s) noexcept {
  switch (s) {
    case Stage::greeting:
      return "greeting";
    case Stage::ehlo:
      return "ehlo";
    case Stage::helo:
      return "helo";
    case Stage::starttls:
      return "starttls";
    case Stage::mail:
      return "mail";
    case Stage::rcpt:
      return "rcpt";
    case Stage::data:
      return "data";
    case Stage::message:
      return "message";
    case Stage::bdat:
      return "bdat";
    case Stage::rset:
      return "rset";
    case Stage::quit:
      return "quit";
    case Stage::xclient:
      return "xclient";
    case Stage::auth:
      return "auth";
  }
  return {};
}

void Dialogue::expect(Stage s) noexcept {
  assert(!full());
  stages_[(head_ + count_) % capacity] = s;
  ++count_;
}

Stage Dialogue::oldest() const noexcept {
  assert(count_ > 0);
  return stages_[head_];
}

Dialogue::Event Dialogue::next(std::string_view input, Stage& stage, Reply& reply, std::size_t& consumed) {
  if (!replies_.next(input, reply, consumed)) {
    return replies_.fault() == ReplyFault::none ? Event::need_more : Event::fault;
  }
  if (count_ == 0) return Event::unsolicited;
  stage = oldest();
  head_ = static_cast<std::uint8_t>((head_ + 1) % capacity);
  --count_;
  return Event::reply;
}

}  // namespace ringmx::smtp
