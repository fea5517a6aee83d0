// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "../smtp/body_oracle.h"
#include "ringmx/smtp/body.h"

using namespace ringmx::smtp;

namespace {

void require(bool holds) {
  if (!holds) std::abort();
}

struct Output {
  std::string bytes;
  std::size_t pieces = 0;
  void slice(std::string_view piece) { add(piece); }
  void text(std::string_view constant) { add(constant); }
  void add(std::string_view piece) {
    require(!piece.empty());
    bytes += piece;
    ++pieces;
  }
};

// Sizes of the pieces to cut a message into, from the fuzzer's own bytes, over and over.
class Cuts {
 public:
  explicit Cuts(std::string_view sizes) : sizes_(sizes) {}
  std::size_t next() {
    if (sizes_.empty()) return SIZE_MAX;
    return 1 + static_cast<unsigned char>(sizes_[at_++ % sizes_.size()]);
  }

 private:
  std::string_view sizes_;
  std::size_t at_ = 0;
};

void check(Framing from, Framing to, Cuts cuts, std::string_view input) {
  BodyFilter filter(from, to);
  BodyOracle oracle(from, to);
  Output out;
  std::string expected;
  while (!input.empty() && !oracle.ended) {
    const std::string_view piece = input.substr(0, cuts.next());
    std::size_t taken = 0;
    while (taken < piece.size() && !oracle.ended) oracle.byte(piece[taken++], expected);
    // On the heap and just as long, so that AddressSanitizer sees a byte too far.
    const std::string exact(piece);
    out.pieces = 0;
    require(filter.feed(exact, out) == taken);
    require(out.pieces <= exact.size() + 1);
    require(out.bytes == expected);
    require(filter.message_size() == oracle.size);
    require(filter.ended() == oracle.ended);
    input.remove_prefix(taken);
  }
  if (from == Framing::octets) {
    filter.finish(out);
    oracle.finish(expected);
    require(out.bytes == expected);
    require(filter.message_size() == oracle.size);
  }
  require(filter.faults().bare_lf == oracle.faults.bare_lf);
  require(filter.faults().bare_cr == oracle.faults.bare_cr);
  require(filter.faults().nul == oracle.faults.nul);

  const std::string& wire = out.bytes;
  require(wire.find('\0') == wire.npos);
  for (std::size_t i = 0; i < wire.size(); ++i) {
    if (wire[i] == '\n') require(i > 0 && wire[i - 1] == '\r');
    if (wire[i] == '\r') require(i + 1 < wire.size() ? wire[i + 1] == '\n' : !filter.ended());
  }
  if (to == Framing::dot) {
    const std::size_t end = ("\r\n" + wire).find("\r\n.\r\n");
    require(filter.ended() ? end + 3 == wire.size() : end == wire.npos);
  }
}

}  // namespace

// The first byte: the framings and how many of the bytes behind it are sizes of pieces. The rest is
// the message.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  const unsigned head = data[0];
  input.remove_prefix(1);
  const std::size_t sizes = std::min<std::size_t>(head >> 2 & 7, input.size());
  const Cuts cuts(input.substr(0, sizes));
  input.remove_prefix(sizes);
  check(head & 1 ? Framing::octets : Framing::dot, head & 2 ? Framing::octets : Framing::dot, cuts, input);

  for (const char before : {'\r', '\n', 'x'}) {
    const std::size_t mark = find_mark(input, before);
    for (const ScanKernel& kernel : scan_kernels()) {
      if (kernel.supported()) require(kernel.find_mark(input, before) == mark);
    }
  }
  return 0;
}
