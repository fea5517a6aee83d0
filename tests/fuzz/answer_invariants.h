// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "policy/answer.h"

// A service's octets, read whole and read in pieces: both must find the same answer, and nothing in it may be
// more than what it is to be. Input: an octet for the size of the pieces, then what the service sends.

namespace ringmx::policy {

struct Outcome {
  AnswerReader::State state = AnswerReader::State::reading;
  std::string fault;
  std::size_t taken = 0;
  Answer answer;
};

inline bool one_line(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c < 0x7f; });
}

inline void hold_to_promises(const Outcome& o) {
  using State = AnswerReader::State;
  const Answer& a = o.answer;
  if ((o.state == State::failed) == o.fault.empty()) std::abort();
  if (o.state == State::reading || o.state == State::failed) return;
  const bool has_reply = a.verdict != Answer::Verdict::allow && a.verdict != Answer::Verdict::ask_again;
  if (has_reply == a.reply.empty()) std::abort();
  if (has_reply) {
    const std::string_view reply = a.reply;
    if (reply.size() > 512 || !reply.ends_with("\r\n") || !one_line(reply.substr(0, reply.size() - 2)))
      std::abort();
    if ((reply[0] != '4' && reply[0] != '5') || reply[3] != ' ') std::abort();
  }
  if (a.verdict == Answer::Verdict::ask_again && a.wait == 0) std::abort();
  if (!one_line(a.remark)) std::abort();
  for (const std::string_view text : {std::string_view(a.upstream), std::string_view(a.upstream_address)}) {
    if (text.find_first_of(std::string_view("\r\n\0", 3)) != text.npos) std::abort();
  }
}

template <class Reader>
Outcome read(std::string_view wire, std::size_t piece_size) {
  Reader reader;
  Outcome outcome;
  while (!wire.empty()) {
    const std::vector<char> piece(
        wire.begin(), wire.begin() + static_cast<std::ptrdiff_t>(std::min(piece_size, wire.size())));
    wire.remove_prefix(piece.size());
    std::string_view input(piece.data(), piece.size());
    reader.feed(input);
    outcome.taken += piece.size() - input.size();
    if (!input.empty()) break;
  }
  outcome.state = reader.state();
  outcome.fault = reader.fault();
  outcome.answer = reader.answer();
  return outcome;
}

template <class Reader>
int read_in_pieces(const std::uint8_t* data, std::size_t size) {
  if (size < 1) return 0;
  const std::string_view wire(reinterpret_cast<const char*>(data + 1), size - 1);
  const Outcome whole = read<Reader>(wire, wire.size() + 1);
  hold_to_promises(whole);
  for (const std::size_t piece : {std::size_t{1}, data[0] + std::size_t{1}}) {
    const Outcome cut = read<Reader>(wire, piece);
    if (cut.state != whole.state || cut.fault != whole.fault || cut.taken != whole.taken ||
        cut.answer.reply != whole.answer.reply || cut.answer.verdict != whole.answer.verdict)
      std::abort();
  }
  return 0;
}

}  // namespace ringmx::policy
