// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "ring/counter.h"

namespace ringmx::load {

// Counts values in log-linear cells: 128 per power of two, so that a value is known to 0.8%, however
// large or small. One writer; others may read meanwhile.
class Histogram {
 public:
  static constexpr unsigned precision = 7;
  static constexpr std::uint64_t largest =
      (std::uint64_t{1} << 42) - 1;  // 73 minutes in ns; more counts as this

  static constexpr std::size_t cell_of(std::uint64_t value) noexcept {
    const auto width = static_cast<unsigned>(std::bit_width(value));
    const unsigned shift = width > precision + 1 ? width - precision - 1 : 0;
    return (std::size_t{shift} << precision) + static_cast<std::size_t>(value >> shift);
  }
  // The largest value of a cell.
  static constexpr std::uint64_t highest(std::size_t cell) noexcept {
    if (cell < std::size_t{2} << precision) return cell;
    const std::size_t shift = (cell >> precision) - 1;
    return ((std::uint64_t{cell} - (shift << precision) + 1) << shift) - 1;
  }
  static constexpr std::size_t cells = (std::size_t{42 - precision} + 1) << precision;

  void record(std::int64_t value) noexcept {
    const std::uint64_t v = value < 0                                     ? 0
                            : static_cast<std::uint64_t>(value) > largest ? largest
                                                                          : static_cast<std::uint64_t>(value);
    counts_[cell_of(v)].add();
    total_.add(v);
    if (v > max_.value()) max_.add(v - max_.value());
  }

 private:
  friend class Distribution;
  std::array<ring::Counter, cells> counts_;
  ring::Counter total_;
  ring::Counter max_;
};

// What histograms held when it looked: of one or of all threads, or in between two looks.
class Distribution {
 public:
  Distribution() : counts_(Histogram::cells) {}
  void add(const Histogram& histogram) noexcept;
  // Leaves what came since `earlier`, an earlier look at the same histograms.
  void subtract(const Distribution& earlier) noexcept;

  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }
  // The value that so many percent of all do not exceed: nearest rank, at most 0.8% too high. 0 if
  // there is none.
  [[nodiscard]] std::uint64_t percentile(double percent) const noexcept;
  [[nodiscard]] std::uint64_t max() const noexcept { return max_; }  // exact, until subtract()
  [[nodiscard]] double mean() const noexcept {
    return count_ == 0 ? 0 : static_cast<double>(total_) / static_cast<double>(count_);
  }

 private:
  std::vector<std::uint64_t> counts_;
  std::uint64_t count_ = 0;
  std::uint64_t total_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace ringmx::load
