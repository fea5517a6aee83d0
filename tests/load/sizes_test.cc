// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/sizes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

#include "load/quantity.h"

namespace ringmx::load {
namespace {

Sizes sizes(std::string_view text) {
  Sizes out;
  const auto problem = Sizes::parse(text, out);
  EXPECT_FALSE(problem) << *problem;
  return out;
}

std::vector<std::uint64_t> draw(std::string_view text, int n = 20'000) {
  const Sizes s = sizes(text);
  Random random(7);
  std::vector<std::uint64_t> drawn;
  for (int i = 0; i < n; ++i) drawn.push_back(s.draw(random));
  std::sort(drawn.begin(), drawn.end());
  return drawn;
}

TEST(Sizes, OneSize) {
  const auto drawn = draw("4KiB");
  EXPECT_EQ(drawn.front(), 4096u);
  EXPECT_EQ(drawn.back(), 4096u);
  Random random(1);
  EXPECT_EQ(Sizes().draw(random), 4096u);
}

TEST(Sizes, WeightsAreShares) {
  std::map<std::uint64_t, int> count;
  for (const auto size : draw("1000*70,2000*25,3000*5,4000*0")) ++count[size];
  EXPECT_EQ(count.size(), 3u);
  EXPECT_NEAR(count[1000], 14'000, 300);
  EXPECT_NEAR(count[2000], 5'000, 300);
  EXPECT_NEAR(count[3000], 1'000, 150);
  count.clear();
  for (const auto size : draw("1000,2000")) ++count[size];
  EXPECT_NEAR(count[1000], 10'000, 300);
}

TEST(Sizes, Uniform) {
  const auto drawn = draw("uniform:100-199");
  EXPECT_EQ(drawn.front(), 100u);
  EXPECT_EQ(drawn.back(), 199u);
  EXPECT_NEAR(static_cast<double>(drawn[10'000]), 150, 2);
  EXPECT_EQ(draw("uniform:5-5", 10).back(), 5u);
}

TEST(Sizes, Lognormal) {
  const auto drawn = draw("lognormal:10000,1.0,1M");
  EXPECT_NEAR(static_cast<double>(drawn[10'000]), 10'000, 400);
  // One deviation above the median: e times as much.
  EXPECT_NEAR(static_cast<double>(drawn[16'827]), 27'183, 1'500);
  EXPECT_LE(drawn.back(), 1u << 20);
  EXPECT_EQ(draw("lognormal:1M,3").back(), Sizes::default_cut);
  EXPECT_EQ(draw("lognormal:5000,0", 10).front(), 5000u);
}

TEST(Sizes, MailHasManySmallOnesAndSomeLarge) {
  const auto drawn = draw("mail");
  EXPECT_LT(drawn[10'000], 32u * 1024);
  EXPECT_GT(drawn[19'000], 200u * 1024);
  EXPECT_LE(drawn.back(), Sizes::default_cut);
}

TEST(Sizes, WhatIsNone) {
  for (const std::string_view text : {"",
                                      "x",
                                      "4KB",
                                      "-5",
                                      "4KiB*",
                                      "4KiB*x",
                                      "1*0",
                                      "1*0,2*0",
                                      "uniform:",
                                      "uniform:5",
                                      "uniform:9-5",
                                      "lognormal:",
                                      "lognormal:0,1",
                                      "lognormal:5",
                                      "lognormal:5,x",
                                      "lognormal:5,1,x",
                                      "mail2",
                                      "1e5",
                                      "2TiB",
                                      "99999999999999999999",
                                      "1,,2",
                                      "1,"}) {
    Sizes out;
    const auto problem = Sizes::parse(text, out);
    ASSERT_TRUE(problem) << text;
    EXPECT_NE(problem->find("'" + std::string(text) + "'"), problem->npos);
  }
}

TEST(Quantity, ReadAndWritten) {
  EXPECT_EQ(parse_size("1.5k"), 1536u);
  EXPECT_EQ(parse_size("25MiB"), 25u << 20);
  EXPECT_EQ(parse_size("k"), std::nullopt);
  EXPECT_EQ(parse_duration("250ms"), second / 4);
  EXPECT_EQ(parse_duration("1.5s"), second * 3 / 2);
  EXPECT_EQ(parse_duration("90"), 90 * second);
  EXPECT_EQ(parse_duration("2m"), 120 * second);
  EXPECT_EQ(parse_duration("5d"), std::nullopt);
  EXPECT_EQ(parse_number("12x"), std::nullopt);
  EXPECT_EQ(parse_decimal("-1"), std::nullopt);
  EXPECT_EQ(parse_decimal("nan"), std::nullopt);
  EXPECT_EQ(format_size(0), "0");
  EXPECT_EQ(format_size(4096), "4KiB");
  EXPECT_EQ(format_size(1000), "1000");
  EXPECT_EQ(format_duration(10 * second), "10s");
  EXPECT_EQ(format_duration(120 * second), "2m");
  EXPECT_EQ(format_duration(second / 4), "250ms");
  EXPECT_EQ(format_duration(7200 * second), "2h");
}

}  // namespace
}  // namespace ringmx::load
