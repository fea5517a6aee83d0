// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/schedule.h"

#include <gtest/gtest.h>

namespace ringmx::load {
namespace {

TEST(Schedule, WithoutRampMessagesAreEquallySpaced) {
  const Schedule s{.rate = 200};
  EXPECT_EQ(s.due(0), 0);
  EXPECT_EQ(s.due(1), 5'000'000);
  EXPECT_EQ(s.due(2000), 10 * second);
}

TEST(Schedule, WhileRampingTheRateGrows) {
  const Schedule s{.rate = 100, .ramp = 10 * second};
  EXPECT_EQ(s.due(0), 0);
  // Half the messages that there would be without a ramp; a quarter of those in its first half.
  EXPECT_NEAR(static_cast<double>(s.due(500)), 10e9, 1e3);
  EXPECT_NEAR(static_cast<double>(s.due(125)), 5e9, 1e3);
  EXPECT_NEAR(static_cast<double>(s.due(600) - s.due(500)), 1e9, 1e3);
  for (std::uint64_t n = 0; n < 1000; ++n) ASSERT_LT(s.due(n), s.due(n + 1)) << n;
}

TEST(Schedule, SessionsGrowToTheirNumber) {
  const Schedule at_once{.sessions = 50};
  EXPECT_EQ(at_once.sessions_at(0), 50u);
  const Schedule s{.ramp = 10 * second, .sessions = 50};
  EXPECT_EQ(s.sessions_at(0), 1u);
  EXPECT_EQ(s.sessions_at(5 * second), 26u);
  EXPECT_EQ(s.sessions_at(10 * second - 1), 50u);
  EXPECT_EQ(s.sessions_at(11 * second), 50u);
}

}  // namespace
}  // namespace ringmx::load
