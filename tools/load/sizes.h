// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "load/random.h"

namespace ringmx::load {

// How large messages are: octets with header, as RFC 1870 counts them.
class Sizes {
 public:
  static constexpr std::uint64_t limit = std::uint64_t{1} << 40;
  // Where a distribution that knows no end is cut off, unless it says so itself.
  static constexpr std::uint64_t default_cut = 25 * 1024 * 1024;

  Sizes() = default;  // 4 KiB each

  // "4KiB"; "2KiB*70,20KiB*25,1MiB*5"; "uniform:1KiB-64KiB"; "lognormal:MEDIAN,SIGMA[,MAX]"; "mail".
  // Returns what is wrong, or nothing.
  [[nodiscard]] static std::optional<std::string> parse(std::string_view text, Sizes& out);
  [[nodiscard]] std::uint64_t draw(Random& random) const noexcept;

 private:
  struct Part {
    enum class Shape : std::uint8_t { fixed, uniform, lognormal };
    Shape shape = Shape::fixed;
    double weight = 1;
    std::uint64_t low = 4096;  // fixed: the size; lognormal: the median
    std::uint64_t high = 0;    // uniform, lognormal: the largest
    double sigma = 0;          // lognormal: of the logarithm
  };
  std::vector<Part> parts_{Part{}};
  double weights_ = 1;
};

}  // namespace ringmx::load
