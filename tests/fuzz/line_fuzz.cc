// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "../smtp/line_oracle.h"
#include "ringmx/smtp/line.h"

using namespace ringmx::smtp;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

// Two bytes: the mode, the limit, and how many of the bytes behind them are sizes of the pieces to
// cut the stream into, over and over. The rest is the stream.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  std::string_view stream(reinterpret_cast<const char*>(data), size);
  const bool lenient = data[0] & 1;
  const std::uint32_t limit = 2 + data[1] * (data[0] & 2 ? 8u : 1u);
  stream.remove_prefix(2);
  const std::string_view sizes = stream.substr(0, data[0] >> 2 & 7);
  stream.remove_prefix(sizes.size());

  const auto expected = expected_lines(stream, limit, lenient);
  LineReader reader(limit, lenient);
  std::size_t found = 0;
  std::size_t end = 0;
  for (std::size_t pieces = 0, at = 0; at < stream.size(); ++pieces) {
    const std::size_t piece =
        sizes.empty() ? stream.size() : 1u + static_cast<unsigned char>(sizes[pieces % sizes.size()]);
    // On the heap and just as long, so that AddressSanitizer sees a byte too far.
    const std::string exact(stream.substr(at, piece));
    std::string_view input = exact;
    while (!input.empty()) {
      Line line;
      std::size_t consumed = 0;
      if (!reader.peek(input, line, consumed)) {
        require(consumed == input.size());
        require(reader.partial());
        at += consumed;
        break;
      }
      Line again;
      std::size_t consumed_again = 0;
      require(reader.peek(input, again, consumed_again));
      require(again.text == line.text && again.fault == line.fault && consumed_again == consumed);
      at += consumed;
      input.remove_prefix(consumed);
      require(found < expected.size());
      require(line.text == expected[found].text);
      require(line.fault == expected[found].fault);
      require(at == expected[found].end);
      end = at;
      ++found;
      reader.consume();
      require(!reader.partial());
    }
  }
  require(found == expected.size());
  require(reader.partial() == (end < stream.size()));
  return 0;
}
