// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/line.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <string>

#include "line_oracle.h"

namespace ringmx::smtp {
namespace {

using namespace std::string_view_literals;

constexpr std::array<char, 5> alphabet = {'\r', '\n', '.', '\0', 'a'};

std::string quote(std::string_view s) {
  return testing::PrintToString(std::string(s));
}

// Reads `stream` in pieces; `next(offset)` says where the piece that begins at `offset` ends. Empty
// if the reader finds exactly `expected`, else what is wrong.
template <class Next>
std::string read(std::string_view stream, const std::vector<ExpectedLine>& expected, std::uint32_t limit,
                 bool lenient, Next&& next) {
  LineReader reader(limit, lenient);
  std::size_t found = 0;
  std::size_t begin = 0;  // of the line at hand
  for (std::size_t at = 0, end; at < stream.size(); at = end) {
    end = next(at);
    while (at < end) {
      const std::string_view input = stream.substr(at, end - at);
      Line line;
      std::size_t consumed = 0;
      if (!reader.peek(input, line, consumed)) {
        if (consumed != input.size()) return "does not swallow its input";
        if (!reader.partial()) return "forgets that it holds a line";
        break;
      }
      Line again;
      std::size_t consumed_again = 0;
      if (!reader.peek(input, again, consumed_again) || again.text.data() != line.text.data() ||
          again.text != line.text || again.fault != line.fault || consumed_again != consumed) {
        return "gives another answer when asked again";
      }
      if (found == expected.size()) return "finds a line that is none";
      const ExpectedLine& e = expected[found++];
      at += consumed;
      if (line.text != e.text) return "text: " + quote(line.text);
      if (line.fault != e.fault) return "fault: " + testing::PrintToString(static_cast<int>(line.fault));
      if (at != e.end) return "ends at " + std::to_string(at);
      reader.consume();
      if (reader.partial()) return "holds on after consume()";
      begin = at;
    }
  }
  if (found != expected.size()) return "finds too few lines";
  if (reader.partial() != (begin < stream.size())) return "partial() is wrong at the end";
  return "";
}

class Mode : public testing::TestWithParam<bool> {
 protected:
  const bool lenient = GetParam();
};

void every_short_string(std::size_t longest, bool lenient, std::initializer_list<std::uint32_t> limits,
                        bool all_cuts) {
  std::string stream;
  for (std::size_t size = 1, count = 5; size <= longest; ++size, count *= alphabet.size()) {
    for (std::size_t n = 0; n < count; ++n) {
      stream.clear();
      for (std::size_t i = 0, rest = n; i < size; ++i, rest /= alphabet.size()) {
        stream += alphabet[rest % alphabet.size()];
      }
      for (const std::uint32_t limit : limits) {
        const auto expected = expected_lines(stream, limit, lenient);
        // Bit i of `cuts`: a piece ends behind byte i.
        const auto check = [&](std::size_t cuts) {
          const std::string wrong = read(stream, expected, limit, lenient, [&](std::size_t at) {
            std::size_t end = at + 1;
            while (end < size && !(cuts >> (end - 1) & 1)) ++end;
            return end;
          });
          ASSERT_EQ(wrong, "") << quote(stream) << " limit " << limit << " cut at " << cuts;
        };
        if (all_cuts) {
          for (std::size_t cuts = 0; cuts < std::size_t{1} << (size - 1); ++cuts) check(cuts);
        } else {
          for (std::size_t a = 0; a < size; ++a) {
            for (std::size_t b = 0; b <= a; ++b) check(std::size_t{1} << a | std::size_t{1} << b);
          }
        }
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST_P(Mode, EveryShortStreamInEveryWayOfCutting) {
  every_short_string(6, lenient, {2, 3, 4, 5, 6, 512}, true);
}

TEST_P(Mode, EveryStreamCutOnceAndTwice) {
  every_short_string(LONGEST_STRING, lenient, {5}, false);
}

TEST_P(Mode, RandomStreamsInRandomPieces) {
  std::mt19937 random(321);
  for (int round = 0; round < 3000; ++round) {
    std::string stream;
    while (stream.size() < 3000) {
      stream.append(random() % (random() % 8 ? 60 : 700), 'a');
      stream += random() % 4 ? "\r\n"sv : std::string_view(&alphabet[random() % alphabet.size()], 1);
    }
    const auto longest = std::array<std::size_t, 4>{2, 40, 300, 5000}[random() % 4];
    const auto next = [&](std::size_t at) { return std::min(stream.size(), at + 1 + random() % longest); };
    ASSERT_EQ(read(stream, expected_lines(stream, 512, lenient), 512, lenient, next), "");
  }
}

TEST_P(Mode, TheLimitCountsTheLineEnd) {
  for (const std::uint32_t limit : {512u, 12288u}) {
    for (const std::size_t size : {limit - 1, limit, limit + 1, 4 * limit}) {
      const std::string line = std::string(size - 2, 'a') + "\r\n";
      const std::string stream = line + "NOOP\r\n";
      const auto lines = expected_lines(stream, limit, lenient);
      ASSERT_EQ(lines.size(), 2u);
      ASSERT_EQ(lines[0].fault, size > limit ? LineFault::too_long : LineFault::none);
      ASSERT_EQ(lines[1].text, "NOOP");
      for (std::size_t cut = 1; cut < stream.size(); ++cut) {
        const auto next = [&](std::size_t at) { return at < cut ? cut : stream.size(); };
        ASSERT_EQ(read(stream, lines, limit, lenient, next), "") << size << ' ' << cut;
      }
      ASSERT_EQ(read(stream, lines, limit, lenient, [](std::size_t at) { return at + 1; }), "") << size;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Line, Mode, testing::Bool(),
                         [](const auto& p) { return std::string(p.param ? "lenient" : "strict"); });

Line first(LineReader& reader, std::string_view input, std::size_t& consumed) {
  Line line;
  EXPECT_TRUE(reader.peek(input, line, consumed)) << quote(input);
  return line;
}

TEST(Line, ALineWithinTheInputIsReturnedInPlace) {
  LineReader reader(512, false);
  const std::string_view input = "EHLO a\r\nMAIL FROM:<>\r\n";
  std::size_t consumed = 0;
  const Line line = first(reader, input, consumed);
  EXPECT_EQ(line.text, "EHLO a");
  EXPECT_EQ(static_cast<const void*>(line.text.data()), input.data());
  EXPECT_EQ(consumed, 8u);
  EXPECT_FALSE(reader.partial());
}

// SECURITY: bare LF and bare CR in commands: never two commands from one.
TEST(Line, OneLineNeverBecomesTwo) {
  const std::string_view lf = "NOOP\nRSET\r\nQUIT\r\n";
  const std::string_view cr = "MAIL FROM:<a@b>\rRCPT TO:<c@d>\r\nQUIT\r\n";
  for (const bool lenient : {false, true}) {
    LineReader reader(512, lenient);
    std::size_t consumed = 0;
    Line line = first(reader, cr, consumed);
    EXPECT_EQ(line.fault, LineFault::bare_cr);
    EXPECT_EQ(consumed, 31u);
    line = first(reader, lf, consumed);
    EXPECT_EQ(line.fault, lenient ? LineFault::none : LineFault::bare_lf);
    EXPECT_EQ(line.text, lenient ? "NOOP" : "NOOP\nRSET");
    EXPECT_EQ(consumed, lenient ? 5u : 11u);
  }
}

TEST(Line, OfSeveralFaultsTheFirstOfTheListIsReported) {
  LineReader reader(10, false);
  std::size_t consumed = 0;
  EXPECT_EQ(first(reader, "a\n\r\0b\r\n"sv, consumed).fault, LineFault::nul);
  EXPECT_EQ(first(reader, "a\n\rb\r\n"sv, consumed).fault, LineFault::bare_cr);
  EXPECT_EQ(first(reader, "a\n.b\r\n"sv, consumed).fault, LineFault::bare_lf);
  EXPECT_EQ(first(reader, "a\n\r\0bcdef\r\n"sv, consumed).fault, LineFault::too_long);
  EXPECT_EQ(consumed, 11u);
}

TEST(Line, CostsFewBytes) {
  EXPECT_LE(sizeof(LineReader), 40u);
}

}  // namespace
}  // namespace ringmx::smtp
