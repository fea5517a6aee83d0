// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "ringmx/smtp/line.h"

namespace ringmx::smtp {

struct ExpectedLine {
  std::string text;
  LineFault fault;
  std::size_t end;  // in the stream, one past the line end
};

// The lines that LineReader has to find in `stream`, by looking at all of it at once.
inline std::vector<ExpectedLine> expected_lines(std::string_view stream, std::size_t limit, bool lenient) {
  std::vector<ExpectedLine> lines;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < stream.size(); ++i) {
    const auto is_crlf = [&](std::size_t lf) {
      return lf > begin && stream[lf] == '\n' && stream[lf - 1] == '\r';
    };
    if (!is_crlf(i) && !(lenient && stream[i] == '\n')) continue;

    const std::size_t text_end = is_crlf(i) ? i - 1 : i;
    bool nul = false;
    bool bare_cr = false;
    bool bare_lf = false;
    for (std::size_t k = begin; k < text_end; ++k) {
      nul |= stream[k] == '\0';
      bare_cr |= stream[k] == '\r' && !is_crlf(k + 1);
      bare_lf |= stream[k] == '\n' && !is_crlf(k);
    }
    const LineFault fault = i + 1 - begin > limit ? LineFault::too_long
                            : nul                 ? LineFault::nul
                            : bare_cr             ? LineFault::bare_cr
                            : bare_lf             ? LineFault::bare_lf
                                                  : LineFault::none;
    const auto text = stream.substr(begin, text_end - begin);
    lines.push_back({fault == LineFault::too_long ? "" : std::string(text), fault, i + 1});
    begin = i + 1;
  }
  return lines;
}

}  // namespace ringmx::smtp
