// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/body.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <functional>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "body_oracle.h"

namespace ringmx::smtp {
namespace {

using namespace std::string_view_literals;

constexpr std::array<char, 5> alphabet = {'\r', '\n', '.', '\0', 'a'};

std::string quote(std::string_view s) {
  return testing::PrintToString(std::string(s));
}

struct Output {
  std::string bytes;
  std::size_t pieces = 0;
  void slice(std::string_view piece) { add(piece); }
  void text(std::string_view constant) { add(constant); }
  void add(std::string_view piece) {
    EXPECT_FALSE(piece.empty());
    bytes += piece;
    ++pieces;
  }
};

std::vector<std::string> split(std::string_view s, std::string_view at) {
  std::vector<std::string> parts(1);
  while (!s.empty()) {
    if (s.starts_with(at)) {
      parts.emplace_back();
      s.remove_prefix(at.size());
    } else {
      parts.back() += s[0];
      s.remove_prefix(1);
    }
  }
  return parts;
}

// The message in `wire`, and mended, by looking at all of it at once: an independent second opinion
// on BodyOracle.
std::string mended_message(std::string_view wire, Framing from) {
  std::string message;
  bool first = true;
  for (const std::string& line : split(wire, "\r\n")) {
    if (from == Framing::dot && line == ".") return message + (first ? "" : "\r\n");
    if (!first) message += "\r\n";
    first = false;
    std::vector<std::string> parts = split(line, "\n");
    if (from == Framing::dot && parts[0].starts_with('.') && parts[0] != ".") parts[0].erase(0, 1);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      if (i > 0) message += "\r\n";
      for (const char c : parts[i]) message += c == '\r' || c == '\0' ? ' ' : c;
    }
  }
  if (from == Framing::octets && !message.empty() && !message.ends_with("\r\n")) message += "\r\n";
  return message;
}

// RFC 5321 4.5.2, as the upstream does it.
std::string unstuffed(std::string_view wire) {
  EXPECT_TRUE(wire == ".\r\n" || wire.ends_with("\r\n.\r\n")) << quote(wire);
  wire.remove_suffix(3);
  std::string message;
  bool line_start = true;
  for (const char c : wire) {
    if (!line_start || c != '.') message += c;
    line_start = c == '\n';
  }
  return message;
}

class Framings : public testing::TestWithParam<std::tuple<Framing, Framing>> {
 protected:
  const Framing from = std::get<0>(GetParam());
  const Framing to = std::get<1>(GetParam());

  // All of `input` in pieces: `next(offset)` says where the piece that begins at `offset` ends.
  std::string run(std::string_view input, const std::function<std::size_t(std::size_t)>& next) const {
    BodyFilter filter(from, to);
    BodyOracle oracle(from, to);
    std::string expected;
    Output out;
    for (std::size_t at = 0; at < input.size() && !filter.ended();) {
      const auto piece = input.substr(at, next(at) - at);
      std::size_t taken = 0;
      while (taken < piece.size() && !oracle.ended) oracle.byte(piece[taken++], expected);
      out.pieces = 0;
      EXPECT_EQ(filter.feed(piece, out), taken);
      EXPECT_LE(out.pieces, piece.size() + 1);
      EXPECT_EQ(filter.message_size(), oracle.size);
      EXPECT_EQ(filter.ended(), oracle.ended);
      at += taken;
    }
    if (from == Framing::octets) {
      filter.finish(out);
      oracle.finish(expected);
      EXPECT_TRUE(filter.ended());
      EXPECT_EQ(filter.message_size(), oracle.size);
    }
    EXPECT_EQ(filter.faults().bare_lf, oracle.faults.bare_lf);
    EXPECT_EQ(filter.faults().bare_cr, oracle.faults.bare_cr);
    EXPECT_EQ(filter.faults().nul, oracle.faults.nul);
    EXPECT_EQ(quote(out.bytes), quote(expected)) << quote(input);
    return out.bytes;
  }
};

// Every string over the alphabet, cut into pieces in every way: walks the tree of (string, cuts),
// so that each piece is fed once for all that may follow it. What a piece brings out has to be what
// the oracle, which knows no pieces, brings out for its bytes.
class Walk {
 public:
  Walk(Framing from, Framing to, std::size_t longest) : from_(from), to_(to), longest_(longest) {}

  // False at the first difference.
  bool all() { return extend(BodyFilter(from_, to_), BodyOracle(from_, to_), 0, 0); }
  std::string_view string() const { return {string_.data(), length_}; }
  std::size_t count() const { return count_; }

 private:
  struct Sink {
    char* end;
    void slice(std::string_view s) { end = std::copy(s.begin(), s.end(), end); }
    void text(std::string_view s) { slice(s); }
  };

  // `filter` has seen the string up to `cut`, `oracle` all of it; `out` is from where in expected_
  // on the output is due that `filter` has not given yet.
  bool extend(const BodyFilter& filter, const BodyOracle& oracle, std::size_t cut, std::size_t out) {
    if (length_ == longest_) return true;
    for (const char c : alphabet) {
      string_[length_++] = c;
      const std::size_t expected = expected_.size();
      BodyOracle o = oracle;
      o.byte(c, expected_);
      BodyFilter f = filter;
      if (!feed(f, o, cut, out)) return false;
      if (!o.ended && !(extend(filter, o, cut, out) && extend(f, o, length_, expected_.size()))) return false;
      expected_.resize(expected);
      --length_;
    }
    return true;
  }

  bool feed(BodyFilter& f, BodyOracle o, std::size_t cut, std::size_t out) {
    ++count_;
    std::array<char, 64> bytes;
    Sink sink{bytes.data()};
    if (f.feed(string().substr(cut), sink) != length_ - cut) return false;
    const auto as_expected = [&] {
      return std::string_view(bytes.data(), static_cast<std::size_t>(sink.end - bytes.data())) ==
                 std::string_view(expected_).substr(out) &&
             f.ended() == o.ended && f.message_size() == o.size && f.faults().bare_lf == o.faults.bare_lf &&
             f.faults().bare_cr == o.faults.bare_cr && f.faults().nul == o.faults.nul;
    };
    if (!as_expected()) return false;
    if (from_ == Framing::octets) {
      BodyFilter kept = f;
      const std::size_t expected = expected_.size();
      f.finish(sink);
      o.finish(expected_);
      if (!as_expected()) return false;
      expected_.resize(expected);
      f = kept;
    }
    return true;
  }

  Framing from_;
  Framing to_;
  std::size_t longest_;
  std::array<char, 16> string_{};
  std::size_t length_ = 0;
  std::string expected_;
  std::size_t count_ = 0;
};

TEST_P(Framings, EveryShortStringInEveryWayOfCutting) {
  Walk walk(from, to, LONGEST_STRING);
  EXPECT_TRUE(walk.all()) << quote(walk.string());
  EXPECT_GT(walk.count(), 1'000'000u);
}

// Every short string as a whole message.
TEST_P(Framings, WhatLeavesIsUnambiguousAndTheMendedMessage) {
  std::string input;
  for (std::size_t size = 0, count = 1; size <= LONGEST_STRING; ++size, count *= alphabet.size()) {
    for (std::size_t n = 0; n < count; ++n) {
      input.clear();
      for (std::size_t i = 0, rest = n; i < size; ++i, rest /= alphabet.size()) {
        input += alphabet[rest % alphabet.size()];
      }
      if (from == Framing::dot) input += "\r\n.\r\n";
      BodyFilter filter(from, to);
      Output out;
      filter.feed(input, out);
      if (from == Framing::octets) filter.finish(out);
      ASSERT_TRUE(filter.ended());

      const std::string& wire = out.bytes;
      for (std::size_t i = 0; i < wire.size(); ++i) {
        ASSERT_NE(wire[i], '\0');
        ASSERT_TRUE(wire[i] != '\n' || (i > 0 && wire[i - 1] == '\r')) << quote(input);
        ASSERT_TRUE(wire[i] != '\r' || (i + 1 < wire.size() && wire[i + 1] == '\n')) << quote(input);
      }
      const std::string message = mended_message(input, from);
      if (to == Framing::dot) {
        ASSERT_EQ(("\r\n" + wire).find("\r\n.\r\n"), wire.size() - 3) << quote(input);
        ASSERT_EQ(unstuffed(wire), message) << quote(input);
        ASSERT_EQ(filter.message_size(), message.size());
      } else {
        // Towards octets nothing is added at the end.
        ASSERT_EQ(from == Framing::octets && !wire.empty() && !wire.ends_with("\r\n") ? wire + "\r\n" : wire,
                  message)
            << quote(input);
        ASSERT_EQ(filter.message_size(), wire.size());
      }
    }
  }
}

TEST_P(Framings, LongMessagesWithSomeMarksInRandomPieces) {
  std::mt19937 random(20231218);
  for (int round = 0; round < 3000; ++round) {
    std::string input;
    while (input.size() < 600 + random() % 3000) {
      input.append(random() % 150, 'a');
      if (random() % 8) {
        input += "\r\n";
      } else {
        for (auto n = random() % 4; n > 0; --n) input += alphabet[random() % alphabet.size()];
      }
      if (random() % 8 == 0) input += from == Framing::dot ? "..b" : ".";
    }
    const auto longest = std::array<std::size_t, 4>{3, 40, 300, 5000}[random() % 4];
    run(input, [&](std::size_t at) { return std::min(input.size(), at + 1 + random() % longest); });
    if (HasFailure()) return;
  }
}

// Marks at every byte, in a few patterns, long enough to reach every path.
TEST_P(Framings, NothingButMarks) {
  for (const std::string_view pattern :
       {"\0"sv, "."sv, "\r"sv, "\n"sv, "\n."sv, ".\n"sv, "\r."sv, "\0\n"sv, "\r\0"sv, "\r\r\n"sv, "\r\n.."sv,
        "\r\n..\r"sv, "\r\n.\n"sv, "\n.\r\n"sv, "\0aaaaaaaaaaaaaaaaa"sv, "\0aaaaaaaaaaaaaaa"sv}) {
    std::string input;
    while (input.size() < 5000) input += pattern;
    for (const std::size_t piece : {1u, 2u, 3u, 64u, 1000u, 10000u}) {
      run(input, [&](std::size_t at) { return std::min(input.size(), at + piece); });
    }
  }
}

// SECURITY: SMTP smuggling. What every sequence becomes, spelt out; between an 'a' and a 'b'.
TEST(Smuggling, NoSequenceEndsTheMessageOrLeavesAsItCame) {
  struct Case {
    std::string_view sequence;
    std::string_view dot_to_dot, dot_to_octets, octets_to_dot, octets_to_octets;
  };
  const Case cases[] = {
      {"\n.\n", "\r\n..\r\n", "\r\n.\r\n", "\r\n..\r\n", "\r\n.\r\n"},
      {"\r.\r", " . ", " . ", " . ", " . "},
      {"\r.\n", " .\r\n", " .\r\n", " .\r\n", " .\r\n"},
      {"\n.\r", "\r\n.. ", "\r\n. ", "\r\n.. ", "\r\n. "},
      {"\n.\r\n", "\r\n..\r\n", "\r\n.\r\n", "\r\n..\r\n", "\r\n.\r\n"},
      {"\r\n.\n", "\r\n..\r\n", "\r\n.\r\n", "\r\n..\r\n", "\r\n.\r\n"},
      {"\r.\r\n", " .\r\n", " .\r\n", " .\r\n", " .\r\n"},
      {"\r\n.\r", "\r\n. ", "\r\n ", "\r\n.. ", "\r\n. "},
      {"\r\n\0.\r\n"sv, "\r\n .\r\n", "\r\n .\r\n", "\r\n .\r\n", "\r\n .\r\n"},
      {"\r\n.\0\r\n"sv, "\r\n. \r\n", "\r\n \r\n", "\r\n.. \r\n", "\r\n. \r\n"},
      {"\r\n.\r\r\n", "\r\n. \r\n", "\r\n \r\n", "\r\n.. \r\n", "\r\n. \r\n"},
      {"\r\r\n.\r\r\n", " \r\n. \r\n", " \r\n \r\n", " \r\n.. \r\n", " \r\n. \r\n"},
  };
  // A whole message, in every way of cutting it.
  const auto check = [](Framing from, Framing to, std::string input, std::string_view expected) {
    for (std::size_t cuts = 0; cuts < std::size_t{1} << (input.size() - 1); ++cuts) {
      BodyFilter filter(from, to);
      Output out;
      for (std::size_t at = 0, end; at < input.size(); at = end) {
        ASSERT_FALSE(filter.ended()) << quote(input);
        for (end = at + 1; end < input.size() && !(cuts >> (end - 1) & 1);) ++end;
        ASSERT_EQ(filter.feed(std::string_view(input).substr(at, end - at), out), end - at);
      }
      if (from == Framing::octets) filter.finish(out);
      ASSERT_TRUE(filter.ended());
      ASSERT_EQ(out.bytes, expected) << quote(input) << " cut at " << cuts;
      const BodyFaults& f = filter.faults();
      ASSERT_TRUE(f.bare_lf || f.bare_cr || f.nul);
    }
  };
  for (const Case& c : cases) {
    const auto message = [](std::string_view s) { return "a" + std::string(s) + "b"; };
    const std::string input = message(c.sequence);
    const std::string end = "\r\n.\r\n";
    check(Framing::dot, Framing::dot, input + end, message(c.dot_to_dot) + end);
    check(Framing::dot, Framing::octets, input + end, message(c.dot_to_octets) + "\r\n");
    check(Framing::octets, Framing::dot, input, message(c.octets_to_dot) + end);
    check(Framing::octets, Framing::octets, input, message(c.octets_to_octets));
  }
}

TEST(Body, CleanDataIsOneSliceEndOfDataIncluded) {
  const std::string input = "Subject: x\r\n\r\n..stuffed\r\ntext\r\n.\r\n";
  BodyFilter filter(Framing::dot, Framing::dot);
  Output out;
  EXPECT_EQ(filter.feed(input + "QUIT\r\n", out), input.size());
  EXPECT_TRUE(filter.ended());
  EXPECT_EQ(out.pieces, 1u);
  EXPECT_EQ(out.bytes, input);
  EXPECT_EQ(filter.message_size(), input.size() - 4);
  EXPECT_EQ(filter.feed("QUIT\r\n", out), 0u);
  EXPECT_EQ(out.bytes, input);
}

TEST(Body, EmptyMessages) {
  for (const Framing to : {Framing::dot, Framing::octets}) {
    const std::string_view end = to == Framing::dot ? ".\r\n" : "";
    BodyFilter data(Framing::dot, to);
    Output out;
    EXPECT_EQ(data.feed(".\r\nQUIT", out), 3u);
    EXPECT_TRUE(data.ended());
    EXPECT_EQ(out.bytes, end);
    EXPECT_EQ(data.message_size(), 0u);

    BodyFilter chunks(Framing::octets, to);
    Output none;
    EXPECT_EQ(chunks.feed("", none), 0u);
    chunks.finish(none);
    EXPECT_EQ(none.bytes, end);
    EXPECT_EQ(chunks.message_size(), 0u);
  }
}

TEST(Body, EndOfDataInsideAChunkIsData) {
  BodyFilter filter(Framing::octets, Framing::dot);
  Output out;
  EXPECT_EQ(filter.feed("a\r\n.\r\nRSET\r", out), 11u);
  EXPECT_FALSE(filter.ended());
  EXPECT_EQ(filter.feed("\nb", out), 2u);
  filter.finish(out);
  EXPECT_EQ(out.bytes, "a\r\n..\r\nRSET\r\nb\r\n.\r\n");
  EXPECT_FALSE(filter.faults().bare_cr || filter.faults().bare_lf);
}

TEST(Body, HoldsBackACrOnly) {
  BodyFilter filter(Framing::dot, Framing::dot);
  Output out;
  EXPECT_EQ(filter.feed("a\r\n.\r", out), 5u);
  EXPECT_EQ(out.bytes, "a\r\n.");
  EXPECT_EQ(filter.message_size(), 3u);
  EXPECT_EQ(filter.feed("\n", out), 1u);
  EXPECT_EQ(out.bytes, "a\r\n.\r\n");
  EXPECT_TRUE(filter.ended());
  EXPECT_EQ(filter.message_size(), 3u);
}

TEST(Body, CostsFewBytes) {
  EXPECT_LE(sizeof(BodyFilter), 16u);
}

INSTANTIATE_TEST_SUITE_P(Body, Framings,
                         testing::Combine(testing::Values(Framing::dot, Framing::octets),
                                          testing::Values(Framing::dot, Framing::octets)),
                         [](const auto& p) {
                           const auto name = [](Framing f) { return f == Framing::dot ? "dot" : "octets"; };
                           return std::string(name(std::get<0>(p.param))) + "_to_" +
                                  name(std::get<1>(p.param));
                         });

}  // namespace
}  // namespace ringmx::smtp
