// SPDX-License-Identifier: GPL-3.0-or-later
#include "smtp/scan_kernel.h"

#if defined(__x86_64__)

#include <immintrin.h>

#include <bit>
#include <cstdint>

#include "ringmx/smtp/scanner.h"

// Function attributes, not -mavx2 for the file: with the flag, inline functions of the library
// compiled here could end up as the program's only copy and run on processors without AVX2.
#define RINGMX_AVX2 [[gnu::target("avx2")]]

namespace ringmx::smtp {
namespace {

constexpr std::size_t width = 32;

// 0xff at every mark among the `width` bytes at `p`; reads p[-1] too.
RINGMX_AVX2 inline __m256i marks(const char* p) noexcept {
  const __m256i cur = _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(p));
  const __m256i prev = _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(p - 1));
  const __m256i lf = _mm256_set1_epi8('\n');
  const __m256i unpaired =
      _mm256_xor_si256(_mm256_cmpeq_epi8(cur, lf), _mm256_cmpeq_epi8(prev, _mm256_set1_epi8('\r')));
  const __m256i nul = _mm256_cmpeq_epi8(cur, _mm256_setzero_si256());
  const __m256i dot =
      _mm256_and_si256(_mm256_cmpeq_epi8(cur, _mm256_set1_epi8('.')), _mm256_cmpeq_epi8(prev, lf));
  return _mm256_or_si256(_mm256_or_si256(unpaired, nul), dot);
}

RINGMX_AVX2 inline std::uint32_t mask(__m256i v) noexcept {
  return static_cast<std::uint32_t>(_mm256_movemask_epi8(v));
}

RINGMX_AVX2 inline std::uint64_t mask(__m256i low, __m256i high) noexcept {
  return mask(low) | static_cast<std::uint64_t>(mask(high)) << width;
}

}  // namespace

RINGMX_AVX2 std::size_t find_mark_avx2(std::string_view text, char before) noexcept {
  const std::size_t size = text.size();
  if (size <= width) return find_mark_sse2(text, before);
  const char* const p = text.data();
  if (is_mark(before, p[0])) return 0;

  std::size_t i = 1;
  for (; size - i >= 4 * width; i += 4 * width) {
    const __m256i a = marks(p + i);
    const __m256i b = marks(p + i + width);
    const __m256i c = marks(p + i + 2 * width);
    const __m256i d = marks(p + i + 3 * width);
    const __m256i any = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
    if (_mm256_testz_si256(any, any)) continue;
    if (const auto m = mask(a, b)) return i + static_cast<unsigned>(std::countr_zero(m));
    return i + 2 * width + static_cast<unsigned>(std::countr_zero(mask(c, d)));
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
