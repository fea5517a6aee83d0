// SPDX-License-Identifier: GPL-3.0-or-later
// Reads a response in pieces, each from memory of its own, so that the address sanitizer sees what is kept of
// it.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "policy/answer.h"

namespace ringmx::policy {

struct Read {
  AnswerReader::State state = AnswerReader::State::reading;
  Answer answer;
  std::string fault;
  std::size_t left = 0;  // octets of the wire that were not taken
};

template <class Reader>
Read read(const std::vector<std::string_view>& pieces) {
  using State = AnswerReader::State;
  Reader reader;
  Read result;
  for (const std::string_view piece : pieces) {
    const std::vector<char> copy(piece.begin(), piece.end());
    std::string_view input(copy.data(), copy.size());
    const State state = reader.feed(input);
    EXPECT_TRUE(input.empty() || (state != State::reading && state != State::draining));
    result.left += input.size();
  }
  result.state = reader.state();
  result.answer = reader.answer();
  result.fault = reader.fault();
  return result;
}

// Whole, in two pieces at every point, and octet by octet: all the same.
template <class Reader>
Read read_everywhere(std::string_view wire) {
  const Read whole = read<Reader>({wire});
  const auto same = [&](const std::vector<std::string_view>& pieces) {
    const Read r = read<Reader>(pieces);
    EXPECT_EQ(r.state, whole.state) << wire;
    EXPECT_EQ(r.fault, whole.fault) << wire;
    EXPECT_EQ(r.left, whole.left) << wire;
    EXPECT_EQ(r.answer.verdict, whole.answer.verdict) << wire;
    EXPECT_EQ(r.answer.reply, whole.answer.reply) << wire;
  };
  std::vector<std::string_view> octets;
  for (std::size_t i = 0; i < wire.size(); ++i) {
    octets.push_back(wire.substr(i, 1));
    if (wire.size() < 2000) same({wire.substr(0, i), wire.substr(i)});
  }
  same(octets);
  return whole;
}

}  // namespace ringmx::policy
