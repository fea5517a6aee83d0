// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <string_view>

namespace ringmx::smtp {

// The inner loop of everything that looks at message bytes.
//
// A *mark* is a byte at which somebody has to decide something:
//   - a byte that breaks CRLF pairing: an LF whose predecessor is not CR (bare LF), or any byte
//     but LF whose predecessor is CR (the CR before it is bare);
//   - a NUL;
//   - a '.' whose predecessor is LF (a dot at the start of a line: stuffed, or the end of data).
// Ordinary mail has one mark in some thousand bytes, so a kernel only has to prove quickly that
// there is none: it compares a vector with its own predecessor, loaded one byte earlier.
[[nodiscard]] constexpr bool is_mark(char before, char c) noexcept {
  return ((c == '\n') != (before == '\r')) || c == '\0' || (c == '.' && before == '\n');
}

// Index of the first mark in `text`, or text.size() if it holds none. `before` is the byte that
// came before text[0] in the stream; at the start of a message pass '\n', since a dot there is a
// dot at the start of a line and an LF there is bare. Never reads outside `text`.
[[nodiscard]] std::size_t find_mark(std::string_view text, char before) noexcept;

// One implementation of find_mark. All kernels give the same answers.
struct ScanKernel {
  const char* name;  // "avx2", "sse2", "scalar"
  bool (*supported)() noexcept;
  std::size_t (*find_mark)(std::string_view text, char before) noexcept;
};

// Every kernel compiled in, best first; the last one is "scalar", which runs everywhere.
struct ScanKernels {
  const ScanKernel* first;
  std::size_t count;
  const ScanKernel* begin() const { return first; }
  const ScanKernel* end() const { return first + count; }
};
[[nodiscard]] ScanKernels scan_kernels() noexcept;

// The kernel that find_mark() uses on this processor, chosen once.
[[nodiscard]] const ScanKernel& active_scan_kernel() noexcept;

}  // namespace ringmx::smtp
