// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <vector>

#include "absl/container/inlined_vector.h"
#include "ring/block_pool.h"

namespace ringmx::net {

// Slices, first in, first out. The usual case, one or two, needs no memory of its own; taking from
// the front of many costs no move of the others.
class SliceQueue {
 public:
  [[nodiscard]] bool empty() const noexcept { return head_ == slices_.size(); }
  [[nodiscard]] std::size_t size() const noexcept { return slices_.size() - head_; }
  [[nodiscard]] ring::Slice& operator[](std::size_t i) noexcept { return slices_[head_ + i]; }
  [[nodiscard]] ring::Slice& front() noexcept { return slices_[head_]; }
  [[nodiscard]] ring::Slice& back() noexcept { return slices_.back(); }
  [[nodiscard]] ring::Slice* begin() noexcept { return slices_.data() + head_; }
  [[nodiscard]] ring::Slice* end() noexcept { return slices_.data() + slices_.size(); }
  void push_back(ring::Slice slice) { slices_.push_back(std::move(slice)); }
  void pop_front() {
    slices_[head_++] = {};
    if (empty()) return clear();
    if (head_ < kept_places) return;
    slices_.erase(slices_.begin(), slices_.begin() + static_cast<std::ptrdiff_t>(head_));
    head_ = 0;
  }
  // Gives memory back that an idle connection has no use for.
  void clear() {
    slices_.clear();
    if (slices_.capacity() > kept_places) slices_.shrink_to_fit();
    head_ = 0;
  }

 private:
  static constexpr std::size_t kept_places = 32;
  absl::InlinedVector<ring::Slice, 2> slices_;
  std::size_t head_ = 0;
};

}  // namespace ringmx::net
