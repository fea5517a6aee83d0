// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "policy/rules.h"
#include "ring/timer_wheel.h"

namespace ringmx::gateway {

// Tells the log what rules with otherwise = "mark" would have refused: who would be hit is what a dry run is
// for. Of each rule a line a second at most, so that a flood of sessions is no flood of lines.
class RuleLog {
 public:
  explicit RuleLog(std::size_t rules) : rules_(rules) {}
  void marked(const policy::Verdict::Mark& mark, policy::Step step, const policy::Facts& facts,
              ring::Time now);

 private:
  struct Said {
    ring::Time next{};  // when the next line may be
    std::uint64_t held_back = 0;
  };
  std::vector<Said> rules_;
};

}  // namespace ringmx::gateway
