// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/reply.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

namespace ringmx::smtp {
namespace {

using namespace std::literals;

struct Outcome {
  std::vector<std::string> replies;
  std::vector<std::uint16_t> codes;
  ReplyFault fault = ReplyFault::none;
  bool partial = false;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

std::ostream& operator<<(std::ostream& out, const Outcome& o) {
  out << "fault " << static_cast<int>(o.fault) << " partial " << o.partial;
  for (const std::string& r : o.replies) out << " [" << r << ']';
  return out;
}

// Reads `pieces` one after the other, each from memory of its own, so that a reply.text that points
// into an earlier one is caught by the address sanitizer.
Outcome read(const std::vector<std::string_view>& pieces, std::uint32_t limit = 4096) {
  ReplyReader reader(limit);
  Outcome outcome;
  for (const std::string_view piece : pieces) {
    const std::vector<char> copy(piece.begin(), piece.end());
    std::string_view input(copy.data(), copy.size());
    while (!input.empty()) {
      Reply reply;
      std::size_t consumed = 0;
      const bool whole = reader.next(input, reply, consumed);
      EXPECT_LE(consumed, input.size());
      if (!whole) {
        EXPECT_EQ(consumed, input.size());
      } else {
        EXPECT_GT(consumed, 0U);
        outcome.replies.emplace_back(reply.text);
        outcome.codes.push_back(reply.code);
      }
      input.remove_prefix(consumed);
    }
  }
  outcome.fault = reader.fault();
  outcome.partial = reader.partial();
  return outcome;
}

// Whole, in two pieces at every point, and octet by octet.
void expect_everywhere(std::string_view wire, const Outcome& expected, std::uint32_t limit = 4096) {
  std::vector<std::string_view> octets;
  for (std::size_t i = 0; i < wire.size(); ++i) octets.push_back(wire.substr(i, 1));
  ASSERT_EQ(read({wire}, limit), expected) << wire;
  ASSERT_EQ(read(octets, limit), expected) << wire;
  for (std::size_t i = 1; i < wire.size(); ++i) {
    ASSERT_EQ(read({wire.substr(0, i), wire.substr(i)}, limit), expected) << wire << " at " << i;
  }
}

TEST(ReplyReader, Replies) {
  const std::pair<std::string_view, std::uint16_t> rows[] = {
      {"250 Ok\r\n", 250},
      {"250 \r\n", 250},
      {"250\r\n", 250},
      {"200 x\r\n", 200},
      {"599 x\r\n", 599},
      {"354 go ahead\r\n", 354},
      {"250-mx\r\n250 DSN\r\n", 250},
      {"250-\r\n250-a\r\n250\r\n", 250},
      {"220 na\xc3\xafve \xff\t\x01 text\r\n", 220},
      {"550 250 450\r\n", 550},
  };
  for (const auto& [wire, code] : rows) expect_everywhere(wire, {{std::string(wire)}, {code}});
}

TEST(ReplyReader, SeveralInARow) {
  expect_everywhere(
      "250 a\r\n250-b\r\n250 c\r\n354 d\r\n421",
      {{"250 a\r\n", "250-b\r\n250 c\r\n", "354 d\r\n"}, {250, 250, 354}, ReplyFault::none, true});
}

TEST(ReplyReader, NotReplies) {
  for (const std::string_view wire : {"\r\n"sv,
                                      "hello\r\n"sv,
                                      " 250 x\r\n"sv,
                                      "25 x\r\n"sv,
                                      "2500 x\r\n"sv,
                                      "150 x\r\n"sv,
                                      "199 x\r\n"sv,
                                      "600 x\r\n"sv,
                                      "000 x\r\n"sv,
                                      "2a0 x\r\n"sv,
                                      "25a x\r\n"sv,
                                      "250_x\r\n"sv,
                                      "250x\r\n"sv,
                                      "250\tx\r\n"sv,
                                      "250 x\n"sv,
                                      "250\n"sv,
                                      "250 x\ry\r\n"sv,
                                      "250 x\r\r\n"sv,
                                      "250\rx"sv,
                                      "250 \0\r\n"sv,
                                      "250-a\r\n251 b\r\n"sv,
                                      "250-a\r\n350 b\r\n"sv,
                                      "250-a\r\nb\r\n"sv,
                                      "250-a\r\n\r\n"sv,
                                      "250-a\n250 b\r\n"sv}) {
    expect_everywhere(wire, {{}, {}, ReplyFault::malformed, false});
  }
  // What came before the fault is good, what comes behind it is never looked at.
  expect_everywhere("250 a\r\nrubbish\r\n250 b\r\n", {{"250 a\r\n"}, {250}, ReplyFault::malformed, false});
}

TEST(ReplyReader, Limit) {
  const std::string exact = "250 " + std::string(94, 'x') + "\r\n";  // 100
  expect_everywhere(exact, {{exact}, {250}}, 100);
  expect_everywhere(exact + exact, {{exact, exact}, {250, 250}}, 100);
  expect_everywhere(exact, {{}, {}, ReplyFault::too_long, false}, 99);
  expect_everywhere("250-a\r\n250-b\r\n250 c\r\n", {{"250-a\r\n250-b\r\n250 c\r\n"}, {250}}, 21);
  expect_everywhere("250-a\r\n250-b\r\n250 c\r\n", {{}, {}, ReplyFault::too_long, false}, 20);
  // 2 MB of reply (SECURITY row 12) costs no more than the limit.
  ReplyReader reader(1000);
  const std::string chunk(100, 'x');
  Reply reply;
  std::size_t consumed = 0;
  ASSERT_FALSE(reader.next("250 ", reply, consumed));
  for (int i = 0; i < 20000; ++i) {
    ASSERT_FALSE(reader.next(chunk, reply, consumed));
    ASSERT_EQ(consumed, chunk.size());
    ASSERT_EQ(reader.fault(), i < 9 ? ReplyFault::none : ReplyFault::too_long) << i;
  }
  EXPECT_FALSE(reader.partial());
}

TEST(ReplyReader, PointsIntoTheInputIfItCan) {
  ReplyReader reader(100);
  const std::string_view wire = "250 a\r\n250 b\r\n";
  Reply reply;
  std::size_t consumed = 0;
  ASSERT_TRUE(reader.next(wire, reply, consumed));
  EXPECT_EQ(reply.text.data(), wire.data());
  ASSERT_TRUE(reader.next(wire.substr(consumed), reply, consumed));
  EXPECT_EQ(reply.text.data(), wire.data() + 7);
  EXPECT_TRUE(reply.positive());
  EXPECT_FALSE(reader.next("", reply, consumed));
  EXPECT_EQ(consumed, 0U);
}

// An oracle that goes by lines instead of octets: whether `line` (with its CRLF if `ended`) is a line
// of a reply, or could become one.
bool plausible(std::string_view line, bool ended, std::string_view code) {
  std::string_view body = line;
  if (ended) {
    body.remove_suffix(2);
  } else if (body.ends_with('\r') && body.size() > 3) {
    body.remove_suffix(1);
  }
  if (body.find_first_of("\r\n\0"sv) != body.npos) return false;
  const std::string_view digits = body.substr(0, 3);
  if (digits.find_first_not_of("0123456789") != digits.npos) return false;
  if (!digits.empty() && (digits[0] < '2' || digits[0] > '5')) return false;
  if (digits.size() < 3) return !ended && line.size() == digits.size();
  if (!code.empty() && digits != code) return false;
  return body.size() == 3 || body[3] == ' ' || body[3] == '-';
}

Outcome oracle(std::string_view wire) {
  Outcome outcome;
  while (!wire.empty()) {
    std::size_t size = 0;
    std::string_view code;
    for (;;) {
      const std::string_view rest = wire.substr(size);
      const std::size_t newline = rest.find('\n');
      const bool ended = newline != rest.npos && newline > 0 && rest[newline - 1] == '\r';
      const std::string_view line = rest.substr(0, newline == rest.npos ? newline : newline + 1);
      if (!plausible(line, ended, code)) {
        outcome.fault = ReplyFault::malformed;
        return outcome;
      }
      if (!ended) {
        outcome.partial = true;
        return outcome;
      }
      code = line.substr(0, 3);
      size += line.size();
      if (line[3] != '-') break;
    }
    outcome.replies.emplace_back(wire.substr(0, size));
    outcome.codes.push_back(static_cast<std::uint16_t>(std::stoi(std::string(code))));
    wire.remove_prefix(size);
  }
  return outcome;
}

// Every sequence of up to six tokens, cut at every point.
TEST(ReplyReader, EveryShortSequenceAgainstTheOracle) {
  const std::string_view tokens[] = {"250", "4", "51", "-", " ", "\r\n", "\r", "\n", "x", "\0"sv};
  std::size_t replies = 0;
  std::size_t multi_line = 0;
  const std::function<void(const std::string&, int)> grow = [&](const std::string& wire, int more) {
    const Outcome expected = oracle(wire);
    expect_everywhere(wire, expected);
    if (testing::Test::HasFatalFailure()) return;
    replies += expected.replies.size();
    for (const std::string& r : expected.replies) multi_line += r.find("\r\n") + 2 < r.size() ? 1U : 0U;
    if (more == 0 || expected.fault != ReplyFault::none) return;  // a fault lasts
    for (const std::string_view token : tokens) grow(wire + std::string(token), more - 1);
  };
  grow("", 7);
  EXPECT_GT(replies, 1000U);
  EXPECT_GT(multi_line, 10U);
}

}  // namespace
}  // namespace ringmx::smtp
