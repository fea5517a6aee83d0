// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <string_view>

#include "policy/rate_limit.h"
#include "ring/reactor.h"

namespace ringmx::gateway {

// A reactor's lines on standard error, for what others can cause: so many a second and no more, lest they
// fill the journal; how many were left out is said afterwards. Never waits for whoever reads them.
class Log {
 public:
  static constexpr std::uint32_t lines_per_second = 10;

  explicit Log(ring::Reactor& reactor) noexcept : reactor_(reactor) {}
  void line(std::string_view text);

 private:
  void say_left_out();

  ring::Reactor& reactor_;
  policy::TokenBucket bucket_;
  std::uint64_t left_out_ = 0;
  ring::TimerOf<&Log::say_left_out> timer_{*this};
};

}  // namespace ringmx::gateway
