// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "load/random.h"

namespace ringmx::load {
namespace {

TEST(Histogram, CellsFollowEachOtherWithoutGap) {
  std::uint64_t expected = 0;  // the smallest value of the cell
  for (std::size_t cell = 0; cell < Histogram::cells; ++cell) {
    ASSERT_EQ(Histogram::cell_of(expected), cell);
    ASSERT_EQ(Histogram::cell_of(Histogram::highest(cell)), cell);
    // A cell is narrower than a hundredth of what it stands for.
    ASSERT_LE(Histogram::highest(cell) - expected, expected / 100);
    expected = Histogram::highest(cell) + 1;
  }
  EXPECT_EQ(expected, Histogram::largest + 1);
}

TEST(Histogram, PercentilesAreKnownToOnePercent) {
  Random random(1);
  auto histogram = std::make_unique<Histogram>();
  std::vector<std::uint64_t> values;
  double sum = 0;
  for (int i = 0; i < 50'000; ++i) {
    const auto value = static_cast<std::int64_t>(std::exp(6 + 14 * random.uniform()));
    histogram->record(value);
    values.push_back(static_cast<std::uint64_t>(value));
    sum += static_cast<double>(value);
  }
  std::sort(values.begin(), values.end());
  Distribution d;
  d.add(*histogram);
  EXPECT_EQ(d.count(), values.size());
  EXPECT_EQ(d.max(), values.back());
  EXPECT_NEAR(d.mean(), sum / static_cast<double>(values.size()), 1);
  for (const double p : {0.0, 1.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
    const auto rank = std::max(1.0, std::ceil(p / 100 * static_cast<double>(values.size()) - 1e-9));
    const auto exact = static_cast<double>(values[static_cast<std::size_t>(rank) - 1]);
    EXPECT_GE(static_cast<double>(d.percentile(p)), exact) << p;
    EXPECT_LE(static_cast<double>(d.percentile(p)), exact * 1.01) << p;
  }
}

TEST(Histogram, ThreadsAddUp) {
  auto all = std::make_unique<Histogram>();
  auto one = std::make_unique<Histogram>();
  auto other = std::make_unique<Histogram>();
  for (int i = 1; i <= 1000; ++i) {
    all->record(i * 1000);
    (i % 3 == 0 ? *one : *other).record(i * 1000);
  }
  Distribution expected;
  expected.add(*all);
  Distribution merged;
  merged.add(*one);
  merged.add(*other);
  EXPECT_EQ(merged.count(), 1000u);
  EXPECT_EQ(merged.max(), expected.max());
  for (const double p : {1.0, 50.0, 99.0}) EXPECT_EQ(merged.percentile(p), expected.percentile(p));
}

TEST(Histogram, WhatCameInBetween) {
  auto histogram = std::make_unique<Histogram>();
  for (int i = 0; i < 100; ++i) histogram->record(5'000'000);
  Distribution before;
  before.add(*histogram);
  for (int i = 0; i < 10; ++i) histogram->record(100);
  Distribution after;
  after.add(*histogram);
  after.subtract(before);
  EXPECT_EQ(after.count(), 10u);
  EXPECT_EQ(after.percentile(100), 100u);
  EXPECT_EQ(after.max(), 100u);
}

TEST(Histogram, TheEnds) {
  Distribution empty;
  EXPECT_EQ(empty.percentile(99), 0u);
  EXPECT_EQ(empty.mean(), 0);
  auto histogram = std::make_unique<Histogram>();
  histogram->record(-5);  // a clock that went back
  histogram->record(std::int64_t{1} << 62);
  Distribution d;
  d.add(*histogram);
  EXPECT_EQ(d.percentile(50), 0u);
  EXPECT_EQ(d.percentile(100), Histogram::largest);
}

}  // namespace
}  // namespace ringmx::load
