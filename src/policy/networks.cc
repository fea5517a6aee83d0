// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/networks.h"

#include <bit>
#include <cstring>
#include <limits>

namespace ringmx::policy {
namespace {

// Fewer ranges are not worth 256 KiB.
constexpr std::size_t least_indexed = 4096;

constexpr std::uint64_t all_ones = std::numeric_limits<std::uint64_t>::max();

// Of 64 bits, those behind the first `fixed`.
constexpr std::uint64_t behind(unsigned fixed) noexcept {
  return fixed >= 64 ? 0 : all_ones >> fixed;
}

}  // namespace

Networks::Wide Networks::number(const Address& address) noexcept {
  Wide out;
  std::memcpy(&out.high, address.data(), sizeof(out.high));
  std::memcpy(&out.low, address.data() + sizeof(out.high), sizeof(out.low));
  if constexpr (std::endian::native == std::endian::little)
    out = {__builtin_bswap64(out.high), __builtin_bswap64(out.low)};
  return out;
}

Networks::Networks(const std::vector<Network>& networks) {
  std::vector<std::pair<std::uint32_t, std::uint32_t>> ipv4;
  std::vector<std::pair<Wide, Wide>> ipv6;
  for (const Network& network : networks) {
    const Wide address = number(network.address);
    const Wide free{behind(network.bits), behind(std::max<unsigned>(network.bits, 64) - 64)};
    const Wide first{address.high & ~free.high, address.low & ~free.low};
    const Wide last{address.high | free.high, address.low | free.low};
    if (network.bits >= mapped_bits && is_ipv4(network.address)) {
      ipv4.emplace_back(static_cast<std::uint32_t>(first.low), static_cast<std::uint32_t>(last.low));
    } else {
      ipv6.emplace_back(first, last);
    }
  }
  ipv4_.merge(std::move(ipv4));
  ipv6_.merge(std::move(ipv6));
  if (ipv4_.first.size() < least_indexed) return;
  ipv4_index_.reserve(0x10001);
  std::uint32_t range = 0;
  for (std::uint32_t upper = 0; upper <= 0xffff; ++upper) {
    while (range < ipv4_.first.size() && ipv4_.first[range] < upper << 16) ++range;
    ipv4_index_.push_back(range);
  }
  ipv4_index_.push_back(static_cast<std::uint32_t>(ipv4_.first.size()));
}

// Whether nothing is between `last` and `from`, which comes behind it.
bool Networks::adjoin(std::uint32_t last, std::uint32_t from) noexcept {
  return from - last == 1;
}
bool Networks::adjoin(Wide last, Wide from) noexcept {
  return from.low - last.low == 1 && from.high - last.high == (from.low == 0 ? 1U : 0U);
}

template <class Number>
void Networks::Ranges<Number>::merge(std::vector<std::pair<Number, Number>> ranges) {
  std::sort(ranges.begin(), ranges.end());
  for (const auto& [from, to] : ranges) {
    if (!last.empty() && (from <= last.back() || adjoin(last.back(), from))) {
      last.back() = std::max(last.back(), to);
    } else {
      first.push_back(from);
      last.push_back(to);
    }
  }
  first.shrink_to_fit();
  last.shrink_to_fit();
}

template <class Number>
bool Networks::Ranges<Number>::contains(Number n, std::size_t from, std::size_t to) const noexcept {
  const auto above = std::upper_bound(first.begin() + static_cast<std::ptrdiff_t>(from),
                                      first.begin() + static_cast<std::ptrdiff_t>(to), n);
  return above != first.begin() && n <= last[static_cast<std::size_t>(above - first.begin()) - 1];
}

bool Networks::contains(const Address& address) const noexcept {
  const Wide wide = number(address);
  const bool ipv4 = wide.high == 0 && wide.low >> 32 == 0xffff;
  if (!ipv4) return ipv6_.contains(wide);
  const auto n = static_cast<std::uint32_t>(wide.low);
  if (ipv4_index_.empty()) return ipv4_.contains(n);
  return ipv4_.contains(n, ipv4_index_[n >> 16], ipv4_index_[(n >> 16) + 1]);
}

bool Networks::all_ipv4() const noexcept {
  return ipv4_.contains(0) && ipv4_.last.front() == std::numeric_limits<std::uint32_t>::max();
}

bool Networks::all_ipv6() const noexcept {
  return ipv6_.contains(Wide{}) && ipv6_.last.front() == Wide{all_ones, all_ones};
}

std::size_t Networks::memory() const noexcept {
  return ipv4_index_.capacity() * sizeof(std::uint32_t) +
         2 * (ipv4_.first.capacity() * sizeof(std::uint32_t) + ipv6_.first.capacity() * sizeof(Wide));
}

}  // namespace ringmx::policy
