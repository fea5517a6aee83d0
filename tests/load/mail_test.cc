// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/mail.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

namespace ringmx::load {
namespace {

Pattern pattern(std::string_view text) {
  Pattern out;
  const auto problem = Pattern::parse(text, out);
  EXPECT_FALSE(problem) << *problem;
  return out;
}

std::string filled(std::string_view text, Pattern::Numbers numbers) {
  std::string out;
  pattern(text).append(out, numbers);
  return out;
}

MailOptions options(std::string_view size = "4096") {
  MailOptions o{.from = pattern("from%n@example.test"),
                .to = {pattern("to%n.%r@example.test")},
                .helo = pattern("client%s.example.test"),
                .date = "Tue, 24 Nov 2026 20:00:00 +0000",
                .run = "run1"};
  EXPECT_FALSE(Sizes::parse(size, o.sizes));
  return o;
}

std::string content(const Mail& mail, const Message& m) {
  std::string out;
  out.reserve(m.size);
  mail.append_header(out, m);
  mail.body(m, 0, m.size - m.header_size, [&](std::string_view piece) { out += piece; });
  return out;
}

std::string stuffed(const std::string& text) {
  std::string out;
  out.reserve(text.size() + text.size() / 16);
  bool line_start = true;
  for (const char c : text) {
    if (line_start && c == '.') out += '.';
    out += c;
    line_start = c == '\n';
  }
  return out;
}

TEST(Pattern, Numbers) {
  EXPECT_EQ(filled("user@example.test", {}), "user@example.test");
  EXPECT_EQ(filled("", {}), "");
  EXPECT_EQ(filled("%n", {.message = 1234}), "1234");
  EXPECT_EQ(filled("u%100n@d%5n.%r.%s.test", {.message = 1234, .recipient = 7, .session = 9}),
            "u34@d4.7.9.test");
  EXPECT_EQ(filled("a%%b%%%n", {.message = 1}), "a%b%1");
}

TEST(Pattern, WhatIsNone) {
  for (const std::string_view text :
       {"%", "a%", "%x", "%0n", "%5", "%5%", "a b", "a\r\nRCPT", "%99999999999999999999n"}) {
    Pattern out;
    EXPECT_TRUE(Pattern::parse(text, out)) << text;
  }
}

// Every size from the header alone to some lines, and around where the text of a bit more than 64 KiB begins
// for the second and the third time.
TEST(Mail, IsAsLongAsItIsToBeAndMadeOfLines) {
  for (const bool base64 : {false, true}) {
    std::set<std::uint64_t> sizes;
    for (std::uint64_t n = 300; n < 1200; ++n) sizes.insert(n);
    for (std::uint64_t n = 65'400; n < 66'300; ++n) sizes.insert(n);
    for (std::uint64_t n = 131'000; n < 131'800; ++n) sizes.insert(n);
    for (const std::uint64_t size : sizes) {
      MailOptions o = options(std::to_string(size));
      o.base64 = base64;
      const Mail mail(std::move(o));
      const Message m = mail.message(17, 3);
      const std::string text = content(mail, m);
      ASSERT_EQ(text.size(), m.size);
      // Exact, but where the header is longer, or a single octet would be the body.
      ASSERT_TRUE(m.size == size || size < m.header_size || size == m.header_size + 1u)
          << size << " " << m.size;
      ASSERT_EQ(text.substr(text.size() - 2), "\r\n");
      for (std::size_t start = 0, end = 0; start < text.size(); start = end + 2) {
        end = text.find("\r\n", start);
        ASSERT_LE(end - start, 100u);
        const auto printable = [](char c) { return c >= ' ' && c < 0x7f; };
        ASSERT_TRUE(std::all_of(&text[start], &text[end], printable));
      }
      std::string dotted;
      dotted.reserve(text.size() + text.size() / 16);
      mail.append_header(dotted, m);
      mail.stuffed_body(m, [&](std::string_view piece) { dotted += piece; });
      ASSERT_EQ(dotted, stuffed(text));
    }
  }
}

TEST(Mail, TextHasDotsToBeStuffed) {
  const Mail mail(options("70000"));
  const std::string text = content(mail, mail.message(0, 0));
  EXPECT_NE(text.find("\r\n.\r\n"), text.npos);
  MailOptions o = options("70000");
  o.base64 = true;
  const Mail attachment(std::move(o));
  EXPECT_EQ(content(attachment, attachment.message(0, 0)).find("\r\n."), text.npos);
}

TEST(Mail, PiecesOfTheBodyAreTheBody) {
  const Mail mail(options("140000"));
  const Message m = mail.message(5, 0);
  const std::uint64_t body = m.size - m.header_size;
  std::string whole;
  mail.body(m, 0, body, [&](std::string_view piece) { whole += piece; });
  for (const std::uint64_t step : {1u, 77u, 4096u, 65'537u}) {
    std::string pieces;
    for (std::uint64_t at = 0; at < body; at += step) {
      mail.body(m, at, std::min(at + step, body), [&](std::string_view piece) { pieces += piece; });
    }
    ASSERT_EQ(pieces, whole) << step;
  }
}

TEST(Mail, EachIsItsOwnAndCanBeRepeated) {
  const Mail mail(options("uniform:1000-90000"));
  const Message one = mail.message(1, 0);
  const Message two = mail.message(2, 0);
  EXPECT_NE(content(mail, one), content(mail, two));
  EXPECT_NE(one.size, two.size);
  EXPECT_EQ(mail.message(1, 0).size, one.size);
  const std::string text = content(mail, one);
  EXPECT_NE(text.find("Subject: ringmx-load message 1\r\n"), text.npos);
  EXPECT_NE(text.find("Message-ID: <1.run1@client0.example.test>\r\n"), text.npos);
  EXPECT_NE(text.find("From: <from1@example.test>\r\nTo: <to1.0@example.test>\r\n"), text.npos);
  MailOptions o = options("uniform:1000-90000");
  o.seed = 1;
  EXPECT_NE(Mail(std::move(o)).message(1, 0).size, one.size);
}

TEST(Mail, RecipientsTakeTurns) {
  MailOptions o = options();
  o.to = {pattern("a%r@x"), pattern("b%r@y")};
  o.recipients = 3;
  const Mail mail(std::move(o));
  const auto recipient = [&](std::uint64_t message, std::uint64_t r) {
    std::string out;
    mail.append_recipient(out, mail.message(message, 0), r);
    return out;
  };
  EXPECT_EQ(recipient(0, 0), "a0@x");
  EXPECT_EQ(recipient(0, 1), "b1@y");
  EXPECT_EQ(recipient(0, 2), "a2@x");
  EXPECT_EQ(recipient(1, 0), "b0@y");
}

}  // namespace
}  // namespace ringmx::load
