// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <algorithm>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "policy/facts.h"

namespace ringmx::policy {

inline constexpr unsigned mapped_bits = 96;
// Is it a.b.c.d as ::ffff:a.b.c.d?
[[nodiscard]] constexpr bool is_ipv4(const Address& address) noexcept {
  constexpr Address mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return std::equal(mapped.begin(), mapped.begin() + mapped_bits / 8, address.begin());
}

// The addresses that share the first `bits` bits of `address`; of IPv4 a.b.c.d/n as ::ffff:a.b.c.d/(96 + n).
struct Network {
  Address address{};
  std::uint8_t bits = 0;
  friend bool operator==(const Network&, const Network&) = default;
};

// A set of networks: sorted ranges with gaps between them, so that 100,000 of them are a binary search. IPv4
// and IPv6 are apart: ::/0 is every IPv6 client, and no other.
class Networks {
 public:
  Networks() = default;
  explicit Networks(const std::vector<Network>& networks);
  [[nodiscard]] bool contains(const Address& address) const noexcept;
  [[nodiscard]] bool all_ipv4() const noexcept;
  [[nodiscard]] bool all_ipv6() const noexcept;
  [[nodiscard]] std::size_t memory() const noexcept;  // bytes

 private:
  struct Wide {  // an IPv6 address as a number
    std::uint64_t high = 0, low = 0;
    friend auto operator<=>(const Wide&, const Wide&) = default;
  };
  static bool adjoin(std::uint32_t last, std::uint32_t from) noexcept;
  static bool adjoin(Wide last, Wide from) noexcept;
  // Parallel: a search reads but `first`.
  template <class Number>
  struct Ranges {
    std::vector<Number> first, last;
    [[nodiscard]] bool contains(Number n) const noexcept { return contains(n, 0, first.size()); }
    // If those that begin at `n` or before it are known to end between `from` and `to`.
    [[nodiscard]] bool contains(Number n, std::size_t from, std::size_t to) const noexcept;
    void merge(std::vector<std::pair<Number, Number>> ranges);
  };
  static Wide number(const Address& address) noexcept;

  Ranges<std::uint32_t> ipv4_;
  std::vector<std::uint32_t> ipv4_index_;  // of the first range at or behind a.b.0.0; empty: there are few
  Ranges<Wide> ipv6_;
};

}  // namespace ringmx::policy
