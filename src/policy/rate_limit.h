// SPDX-License-Identifier: GPL-3.0-or-later
// How often something may happen: at all (TokenBucket), or for each of many networks (NetworkRateLimit).
// Time is the caller's, in milliseconds, and never goes back.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ringmx::policy {

// So many at once, and as many again, evenly, in each period.
class Rate {
 public:
  static constexpr Rate per_second(std::uint32_t count) { return {count, 1'000'000}; }
  static constexpr Rate per_minute(std::uint32_t count) { return {count, 60'000'000}; }

 private:
  friend class TokenBucket;
  constexpr Rate(std::uint32_t count, std::int64_t period)
      : interval(period / count), capacity(interval * count) {}
  std::int64_t interval;  // microseconds for one
  std::int64_t capacity;  // for all that may happen at once
};

// All that has to be remembered is when it will be full again: by so much has been taken out.
class TokenBucket {
 public:
  // Takes one out. False: there is none.
  constexpr bool take(const Rate& rate, std::int64_t now) {
    const std::int64_t at = now * 1000;
    const std::int64_t full_then = std::max(full_at_, at) + rate.interval;
    if (full_then - at > rate.capacity) return false;
    full_at_ = full_then;
    return true;
  }
  [[nodiscard]] constexpr std::int64_t full_at() const { return full_at_; }  // microseconds

 private:
  std::int64_t full_at_ = 0;
};

// What one client owns of the address space, as a number: an IPv4 /24 or an IPv6 /64.
using NetworkKey = std::uint64_t;
NetworkKey network_of_ipv4(std::span<const std::uint8_t, 4> address);
NetworkKey network_of_ipv6(std::span<const std::uint8_t, 16> address);

// A bucket for each network. Its memory is what it is made with: a network takes the place of the one that
// comes nearest to having a full bucket, which is what all have that nobody remembers. So the busiest ones
// stay; who can speak from more networks than there is room for is not to be stopped by a limit on each.
class NetworkRateLimit {
 public:
  static constexpr std::size_t default_capacity = 16 * 1024;  // 256 KiB

  // `seed` is not to be guessed: it keeps anybody from choosing networks that are kept in one place.
  NetworkRateLimit(const Rate& rate, std::uint64_t seed, std::size_t capacity = default_capacity);
  // False: it has had its share.
  bool take(NetworkKey network, std::int64_t now);

 private:
  struct Entry {
    NetworkKey network = 0;
    TokenBucket bucket;
  };
  static constexpr std::size_t ways = 4;  // a cache line
  struct alignas(64) Set {
    std::array<Entry, ways> entries;
  };

  Rate rate_;
  std::uint64_t seed_;
  std::vector<Set> sets_;  // a power of two
};

}  // namespace ringmx::policy
