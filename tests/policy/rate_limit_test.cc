// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/rate_limit.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <random>
#include <set>

namespace ringmx::policy {
namespace {

constexpr std::int64_t minute = 60'000;
constexpr std::int64_t start = 1'000'000'007;  // some uptime

NetworkKey ipv4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) {
  return network_of_ipv4(std::array{a, b, c, d});
}

TEST(TokenBucket, AsManyAtOnceAsInAPeriodAndThenEvenly) {
  constexpr Rate rate = Rate::per_minute(6);
  TokenBucket bucket;
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(bucket.take(rate, start)) << i;
  EXPECT_FALSE(bucket.take(rate, start));
  EXPECT_FALSE(bucket.take(rate, start + 9'999));
  EXPECT_TRUE(bucket.take(rate, start + 10'000));
  EXPECT_FALSE(bucket.take(rate, start + 10'000));
  // What was refused costs nothing, and no pause earns more than what fits.
  for (int i = 0; i < 6; ++i) EXPECT_TRUE(bucket.take(rate, start + 100 * minute)) << i;
  EXPECT_FALSE(bucket.take(rate, start + 100 * minute));
}

TEST(TokenBucket, EveryRateIsKeptOverAnyTime) {
  std::mt19937_64 chance(1);
  for (const std::uint32_t count : {1U, 7U, 60U, 1000U, 59'999U, 1'000'000U}) {
    const Rate rate = Rate::per_minute(count);
    TokenBucket bucket;
    std::uint64_t taken = 0;
    std::int64_t now = start;
    while (now < start + 5 * minute) {
      while (bucket.take(rate, now)) ++taken;
      now += static_cast<std::int64_t>(chance() % 200);
    }
    EXPECT_LE(taken, std::uint64_t{6} * count + count / 1000);     // rounding: at most a thousandth
    EXPECT_GE(taken + 1 + count / 300, std::uint64_t{6} * count);  // the last pause
  }
}

TEST(NetworkKey, WhatAClientOwns) {
  EXPECT_EQ(ipv4(192, 0, 2, 0), ipv4(192, 0, 2, 255));
  EXPECT_NE(ipv4(192, 0, 2, 0), ipv4(192, 0, 3, 0));
  std::array<std::uint8_t, 16> a{0x20, 1, 0xd, 0xb8, 0, 0, 0, 1};
  auto b = a;
  b[8] = b[15] = 1;
  EXPECT_EQ(network_of_ipv6(a), network_of_ipv6(b));
  b[7] = 2;
  EXPECT_NE(network_of_ipv6(a), network_of_ipv6(b));
  EXPECT_NE(ipv4(0, 0, 0, 1), network_of_ipv6(std::array<std::uint8_t, 16>{}));
}

TEST(NetworkRateLimit, EachHasItsOwn) {
  NetworkRateLimit limit(Rate::per_minute(3), 42);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(limit.take(ipv4(192, 0, 2, 1), start));
  EXPECT_FALSE(limit.take(ipv4(192, 0, 2, 2), start));  // a neighbour
  EXPECT_TRUE(limit.take(ipv4(192, 0, 3, 1), start));
  EXPECT_TRUE(limit.take(0, start));  // ::/64, which an empty place is like
  EXPECT_TRUE(limit.take(0, start));
  EXPECT_TRUE(limit.take(0, start));
  EXPECT_FALSE(limit.take(0, start));
  EXPECT_TRUE(limit.take(ipv4(192, 0, 2, 2), start + minute / 3));
  EXPECT_FALSE(limit.take(ipv4(192, 0, 2, 2), start + minute / 3));
}

TEST(NetworkRateLimit, WhoIsAtTheLimitStaysThereWhateverComesBetween) {
  NetworkRateLimit limit(Rate::per_minute(100), 42, 64);
  const NetworkKey busy = ipv4(192, 0, 2, 1);
  while (limit.take(busy, start)) {
  }
  // A thousand times as many networks as there is room for.
  for (NetworkKey other = 0; other < 64'000; ++other) EXPECT_TRUE(limit.take(other, start));
  EXPECT_FALSE(limit.take(busy, start));
}

TEST(NetworkRateLimit, FullBucketsMakeRoomFirst) {
  NetworkRateLimit limit(Rate::per_minute(2), 42, 4);  // one place for all
  for (NetworkKey n = 1; n <= 4; ++n) {
    EXPECT_TRUE(limit.take(n, start));
    EXPECT_TRUE(limit.take(n, start + static_cast<std::int64_t>(n)));
  }
  EXPECT_TRUE(limit.take(5, start + minute));  // all are full again
  EXPECT_TRUE(limit.take(5, start + minute));
  EXPECT_FALSE(limit.take(5, start + minute));
}

TEST(NetworkRateLimit, TheSeedScatters) {
  // Networks that share a place with one seed don't with another.
  std::set<bool> outcomes;
  for (std::uint64_t seed = 0; seed < 64; ++seed) {
    NetworkRateLimit limit(Rate::per_minute(1), seed, 8);
    for (NetworkKey n = 0; n < 5; ++n) limit.take(n, start);  // five to two places of four
    outcomes.insert(limit.take(0, start));                    // forgotten if all went to one
  }
  EXPECT_EQ(outcomes.size(), 2U);
}

}  // namespace
}  // namespace ringmx::policy
