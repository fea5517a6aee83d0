// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "ring/timer_wheel.h"

namespace ringmx::gateway {

// Lines of one kind for the log, one a second at most, so that a flood of sessions is no flood of lines.
class Journal {
 public:
  // `line` without its end.
  void tell(std::string line, ring::Time now);

 private:
  ring::Time next_{};  // when the next line may be
  std::uint64_t held_back_ = 0;
};

}  // namespace ringmx::gateway
