// SPDX-License-Identifier: GPL-3.0-or-later
#include "smtp/scan_kernel.h"

#if defined(__x86_64__)

#include <emmintrin.h>

#include <bit>
#include <cstdint>

#include "ringmx/smtp/scanner.h"

namespace ringmx::smtp {
namespace {

constexpr std::size_t width = 16;

// 0xff at every mark among the `width` bytes at `p`; reads p[-1] too.
inline __m128i marks(const char* p) noexcept {
  const __m128i cur = _mm_loadu_si128(reinterpret_cast<const __m128i_u*>(p));
  const __m128i prev = _mm_loadu_si128(reinterpret_cast<const __m128i_u*>(p - 1));
  const __m128i lf = _mm_set1_epi8('\n');
  const __m128i unpaired = _mm_xor_si128(_mm_cmpeq_epi8(cur, lf), _mm_cmpeq_epi8(prev, _mm_set1_epi8('\r')));
  const __m128i nul = _mm_cmpeq_epi8(cur, _mm_setzero_si128());
  const __m128i dot = _mm_and_si128(_mm_cmpeq_epi8(cur, _mm_set1_epi8('.')), _mm_cmpeq_epi8(prev, lf));
  return _mm_or_si128(_mm_or_si128(unpaired, nul), dot);
}

inline std::uint32_t mask(__m128i v) noexcept {
  return static_cast<std::uint32_t>(_mm_movemask_epi8(v));
}

inline std::uint64_t mask(__m128i a, __m128i b, __m128i c, __m128i d) noexcept {
  const std::uint32_t low = mask(a) | mask(b) << width;
  const std::uint32_t high = mask(c) | mask(d) << width;
  return low | static_cast<std::uint64_t>(high) << (2 * width);
}

}  // namespace

std::size_t find_mark_sse2(std::string_view text, char before) noexcept {
  const std::size_t size = text.size();
  if (size <= width) return find_mark_scalar(text, before);
  const char* const p = text.data();
  if (is_mark(before, p[0])) return 0;

  std::size_t i = 1;
  for (; size - i >= 4 * width; i += 4 * width) {
    const __m128i a = marks(p + i);
    const __m128i b = marks(p + i + width);
    const __m128i c = marks(p + i + 2 * width);
    const __m128i d = marks(p + i + 3 * width);
    if (mask(_mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, d))) == 0) continue;
    return i + static_cast<unsigned>(std::countr_zero(mask(a, b, c, d)));
  }
  for (; size - i >= width; i += width) {
    if (const auto m = mask(marks(p + i))) return i + static_cast<unsigned>(std::countr_zero(m));
  }
  // The rest, with some bytes looked at a second time: they hold no mark.
  i = size - width;
  const auto m = mask(marks(p + i));
  return m ? i + static_cast<unsigned>(std::countr_zero(m)) : size;
}

}  // namespace ringmx::smtp

#endif
