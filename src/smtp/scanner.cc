// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/scanner.h"

#include <atomic>
#include <iterator>

#include "smtp/scan_kernel.h"

namespace ringmx::smtp {

std::size_t find_mark_scalar(std::string_view text, char before) noexcept {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (is_mark(before, text[i])) return i;
    before = text[i];
  }
  return text.size();
}

namespace {

constexpr ScanKernel kernels[] = {
#if defined(__x86_64__)
    {"avx2", []() noexcept { return __builtin_cpu_supports("avx2") != 0; }, find_mark_avx2},
    {"sse2", []() noexcept { return true; }, find_mark_sse2},  // part of x86-64
#endif
    {"scalar", []() noexcept { return true; }, find_mark_scalar},
};

std::size_t choose_then_find(std::string_view text, char before) noexcept;

// Constant-initialised, so that it can be called before main() too. Threads that race for the first
// call choose the same.
constinit std::atomic<decltype(ScanKernel::find_mark)> chosen{choose_then_find};

std::size_t choose_then_find(std::string_view text, char before) noexcept {
  const auto best = active_scan_kernel().find_mark;
  chosen.store(best, std::memory_order_relaxed);
  return best(text, before);
}

}  // namespace

ScanKernels scan_kernels() noexcept {
  return {kernels, std::size(kernels)};
}

const ScanKernel& active_scan_kernel() noexcept {
  const ScanKernel* kernel = kernels;
  while (!kernel->supported()) ++kernel;  // the last one always is
  return *kernel;
}

std::size_t find_mark(std::string_view text, char before) noexcept {
  return chosen.load(std::memory_order_relaxed)(text, before);
}

}  // namespace ringmx::smtp
