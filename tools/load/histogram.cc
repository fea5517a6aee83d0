// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/histogram.h"

#include <algorithm>
#include <cmath>

namespace ringmx::load {

void Distribution::add(const Histogram& histogram) noexcept {
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    const std::uint64_t n = histogram.counts_[i].value();
    counts_[i] += n;
    count_ += n;
  }
  total_ += histogram.total_.value();
  max_ = std::max(max_, histogram.max_.value());
}

void Distribution::subtract(const Distribution& earlier) noexcept {
  max_ = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    counts_[i] -= earlier.counts_[i];
    if (counts_[i] != 0) max_ = Histogram::highest(i);
  }
  count_ -= earlier.count_;
  total_ -= earlier.total_;
}

std::uint64_t Distribution::percentile(double percent) const noexcept {
  if (count_ == 0) return 0;
  const auto rank = std::max<std::uint64_t>(
      1, static_cast<std::uint64_t>(std::ceil(percent / 100 * static_cast<double>(count_) - 1e-9)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen >= rank) return std::min(Histogram::highest(i), max_);
  }
  return max_;
}

}  // namespace ringmx::load
