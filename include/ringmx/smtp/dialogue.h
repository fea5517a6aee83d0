// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "ringmx/smtp/reply.h"

namespace ringmx::smtp {

// What a reply of the upstream answers.
enum class Stage : std::uint8_t {
  greeting,
  ehlo,
  helo,
  starttls,
  mail,
  rcpt,
  data,
  message,
  bdat,
  rset,
  quit,
  xclient,
  auth
};
inline constexpr std::size_t stage_count = static_cast<std::size_t>(Stage::auth) + 1;
[[nodiscard]] std::string_view stage_name(Stage s) noexcept;  // for a metric's label

// The client side of one SMTP connection: which commands are out, and which reply answers which.
// RFC 2920 3.1: replies come in the order of the commands. A reply that nothing asked for is a
// fault (SECURITY row 12, "answers twice").
class Dialogue {
 public:
  // So many commands may be out at once; a power of two.
  static constexpr std::size_t capacity = 128;

  explicit Dialogue(std::uint32_t reply_limit) noexcept : replies_(reply_limit) {}

  // A command is on its way. Requires !full().
  void expect(Stage s) noexcept;
  [[nodiscard]] bool full() const noexcept { return count_ == capacity; }
  [[nodiscard]] std::size_t outstanding() const noexcept { return count_; }
  // The stage of the oldest command out. Requires outstanding() > 0.
  [[nodiscard]] Stage oldest() const noexcept;

  enum class Event : std::uint8_t {
    need_more,    // all input swallowed
    reply,        // `stage` was answered by `reply`
    unsolicited,  // a reply, and nothing was out
    fault,        // not a reply: see reply_fault()
  };
  // Takes the first reply of `input`. `consumed` and the life time of reply.text as in ReplyReader.
  [[nodiscard]] Event next(std::string_view input, Stage& stage, Reply& reply, std::size_t& consumed);
  [[nodiscard]] ReplyFault reply_fault() const noexcept { return replies_.fault(); }
  // Nothing is out, no part of a reply is held and nothing was wrong: the connection is at rest.
  [[nodiscard]] bool at_rest() const noexcept {
    return count_ == 0 && !replies_.partial() && replies_.fault() == ReplyFault::none;
  }

 private:
  ReplyReader replies_;
  std::array<Stage, capacity> stages_{};
  std::uint8_t head_ = 0;
  std::uint8_t count_ = 0;
};

}  // namespace ringmx::smtp
