// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/rate_limit.h"

#include <bit>

namespace ringmx::policy {

namespace {

// Nobody sends from a multicast address (ff00::/8): there IPv4 gets in nobody's way.
constexpr NetworkKey ipv4_networks = 0xffff'0000'0000'0000;

// Each bit of the result hangs on each bit of `x` (the finalizer of splitmix64).
constexpr std::uint64_t mix(std::uint64_t x) {
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
  x = (x ^ x >> 27) * 0x94d049bb133111eb;
  return x ^ x >> 31;
}

constexpr NetworkKey big_endian(std::span<const std::uint8_t> octets) {
  NetworkKey number = 0;
  for (const std::uint8_t octet : octets) number = number << 8 | octet;
  return number;
}

}  // namespace

NetworkKey network_of_ipv4(std::span<const std::uint8_t, 4> address) {
  return ipv4_networks | big_endian(address.first<3>());
}

NetworkKey network_of_ipv6(std::span<const std::uint8_t, 16> address) {
  return big_endian(address.first<8>());
}

NetworkRateLimit::NetworkRateLimit(const Rate& rate, std::uint64_t seed, std::size_t capacity)
    : rate_(rate), seed_(seed), sets_(std::bit_ceil(std::max<std::size_t>(capacity / ways, 1))) {}

bool NetworkRateLimit::take(NetworkKey network, std::int64_t now) {
  // Mixed twice, with the seed in between: no difference of two networks leads to one place whatever it is.
  std::array<Entry, ways>& entries = sets_[mix(mix(network) ^ seed_) & (sets_.size() - 1)].entries;
  Entry* fullest = &entries[0];
  for (Entry& entry : entries) {
    if (entry.network == network) return entry.bucket.take(rate_, now);
    if (entry.bucket.full_at() < fullest->bucket.full_at()) fullest = &entry;
  }
  *fullest = {network, {}};
  return fullest->bucket.take(rate_, now);
}

}  // namespace ringmx::policy
