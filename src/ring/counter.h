// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <atomic>
#include <cstdint>

namespace ringmx::ring {

// A number with one writer, its reactor, and any number of readers. Relaxed loads and stores are
// plain moves: counting costs what an ordinary increment costs, and no core ever waits for another.
class Counter {
 public:
  void add(std::uint64_t n = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t value() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// What a reactor counts about its ring.
struct ReactorStatistics {
  Counter submissions;         // entries submitted
  Counter enters;              // waits in the kernel
  Counter cq_overflows;        // times that completions found the completion queue full
  Counter buffer_starvations;  // receives that found no buffer
};

}  // namespace ringmx::ring
