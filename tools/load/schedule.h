// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "load/quantity.h"

namespace ringmx::load {

// When what is due, in time since the start.
struct Schedule {
  double rate = 0;  // messages per second; 0: closed loop
  Nanoseconds ramp = 0;
  std::uint64_t sessions = 1;

  // Open loop: when message `number` is due, whatever became of those before it. While ramping the
  // rate grows in proportion to the time.
  [[nodiscard]] Nanoseconds due(std::uint64_t number) const noexcept {
    const double n = static_cast<double>(number);
    const double r = static_cast<double>(ramp) / second;
    const double in_ramp = rate * r / 2;
    const double seconds = n < in_ramp ? std::sqrt(2 * n * r / rate) : r / 2 + n / rate;
    return static_cast<Nanoseconds>(seconds * second);
  }

  // Closed loop: how many sessions there may be at that time.
  [[nodiscard]] std::uint64_t sessions_at(Nanoseconds time) const noexcept {
    if (time >= ramp) return sessions;
    const double share = static_cast<double>(time) / static_cast<double>(ramp);
    return std::min<std::uint64_t>(sessions,
                                   1 + static_cast<std::uint64_t>(static_cast<double>(sessions) * share));
  }
};

}  // namespace ringmx::load
