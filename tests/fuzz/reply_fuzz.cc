// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "ringmx/smtp/capabilities.h"
#include "ringmx/smtp/reply.h"

// A server's octets, read whole and read in pieces: both must find the same replies. Input: an octet
// for the limit, one for the size of the pieces, then what the server sends.

namespace {

using namespace ringmx::smtp;

struct Outcome {
  std::vector<std::string> replies;
  ReplyFault fault = ReplyFault::none;
  bool partial = false;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome read(std::string_view wire, std::size_t piece_size, std::uint32_t limit) {
  ReplyReader reader(limit);
  Outcome outcome;
  while (!wire.empty()) {
    const std::vector<char> piece(
        wire.begin(), wire.begin() + static_cast<std::ptrdiff_t>(std::min(piece_size, wire.size())));
    wire.remove_prefix(piece.size());
    std::string_view input(piece.data(), piece.size());
    while (!input.empty()) {
      Reply reply;
      std::size_t consumed = 0;
      const bool whole = reader.next(input, reply, consumed);
      if (consumed > input.size() || (whole ? consumed == 0 : consumed != input.size())) std::abort();
      input.remove_prefix(consumed);
      if (!whole) continue;
      if (reply.code < 200 || reply.code > 599 || reply.text.size() > limit) std::abort();
      if (!reply.text.ends_with("\r\n")) std::abort();
      const Capabilities found = parse_ehlo_reply(reply.text);
      if (parse_ehlo_reply(format_ehlo_reply("mx", found)).extensions != found.extensions) std::abort();
      outcome.replies.emplace_back(reply.text);
    }
  }
  outcome.fault = reader.fault();
  outcome.partial = reader.partial();
  return outcome;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::string_view wire(reinterpret_cast<const char*>(data + 2), size - 2);
  const std::uint32_t limit = data[0] * 8U;
  const Outcome whole = read(wire, wire.size() + 1, limit);
  if (read(wire, data[1] + 1U, limit) != whole || read(wire, 1, limit) != whole) std::abort();
  std::string kept;
  for (const std::string& r : whole.replies) kept += r;
  if (!wire.starts_with(kept)) std::abort();
  return 0;
}
