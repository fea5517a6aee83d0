// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <string_view>

namespace ringmx::smtp {

// The kernels; scan_kernels() says which of them this processor can run.
std::size_t find_mark_scalar(std::string_view text, char before) noexcept;
#if defined(__x86_64__)
std::size_t find_mark_sse2(std::string_view text, char before) noexcept;
std::size_t find_mark_avx2(std::string_view text, char before) noexcept;
#endif

}  // namespace ringmx::smtp
