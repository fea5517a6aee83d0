// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/capabilities.h"

#include <gtest/gtest.h>

#include <bit>
#include <cctype>
#include <limits>
#include <string>

namespace ringmx::smtp {
namespace {

TEST(Capabilities, EverySetSurvivesTheWire) {
  for (std::uint16_t bits = 0; bits < 2 * static_cast<std::uint16_t>(Extension::starttls); ++bits) {
    for (const std::uint64_t limit : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{52428800},
                                      std::numeric_limits<std::uint64_t>::max()}) {
      Capabilities offered{ExtensionSet(bits), limit};
      if (!offered.extensions.has(Extension::size)) offered.size_limit = 0;
      const std::string reply = format_ehlo_reply("mx.example", offered);
      EXPECT_EQ(parse_ehlo_reply(reply), offered) << reply;

      // "250-" on all lines but the last.
      std::size_t lines = 0;
      for (std::size_t at = 0; at < reply.size(); ++lines) {
        const std::size_t end = reply.find("\r\n", at);
        ASSERT_NE(end, reply.npos);
        EXPECT_EQ(reply.substr(at, 4), end + 2 == reply.size() ? "250 " : "250-") << reply;
        at = end + 2;
      }
      EXPECT_EQ(lines, 1U + static_cast<std::size_t>(std::popcount(bits)));
    }
  }
}

TEST(Capabilities, FormatsAsIsUsual) {
  EXPECT_EQ(format_ehlo_reply("mx.example", {}), "250 mx.example\r\n");
  EXPECT_EQ(format_ehlo_reply("mx.example", {ExtensionSet::all(), 1000}),
            "250-mx.example\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-ENHANCEDSTATUSCODES\r\n"
            "250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250-CHUNKING\r\n250 REQUIRETLS\r\n");
  ExtensionSet starttls;
  starttls.add(Extension::starttls);
  EXPECT_FALSE(ExtensionSet::all().has(Extension::starttls));
  EXPECT_EQ(format_ehlo_reply("mx.example", {starttls, 0}), "250-mx.example\r\n250 STARTTLS\r\n");
}

TEST(Capabilities, ParsesWhatOthersWrite) {
  struct Row {
    std::string_view reply;
    std::uint16_t bits;
    std::uint64_t limit;
  };
  const auto bit = [](Extension e) { return static_cast<std::uint16_t>(e); };
  const std::uint16_t size = bit(Extension::size);
  const Row rows[] = {
      {"", 0, 0},
      {"250 mx\r\n", 0, 0},
      {"250-SIZE 5\r\n", 0, 0},  // a name, not a keyword
      {"250 SIZE\r\n", 0, 0},
      {"250-mx hello\r\n250-pipelining\r\n250-ChUnKiNg\r\n250 8bitmime\r\n",
       static_cast<std::uint16_t>(bit(Extension::pipelining) | bit(Extension::chunking) |
                                  bit(Extension::eight_bit_mime)),
       0},
      {"250-mx\r\n250 SIZE\r\n", size, 0},
      {"250-mx\r\n250 SIZE 0\r\n", size, 0},
      {"250-mx\r\n250 SIZE  10240000 \r\n", size, 10240000},
      {"250-mx\r\n250 SIZE many\r\n", size, 0},
      {"250-mx\r\n250 SIZE -1\r\n", size, 0},
      {"250-mx\r\n250 SIZE 99999999999999999999\r\n", size, std::numeric_limits<std::uint64_t>::max()},
      {"250-mx\r\n250-AUTH PLAIN LOGIN\r\n250-AUTH=LOGIN\r\n250-StartTLS\r\n250 DSN\r\n",
       static_cast<std::uint16_t>(bit(Extension::starttls) | bit(Extension::dsn)), 0},
      {"250-mx\r\n250-DSNX\r\n250-XDSN\r\n250-DS\r\n250\r\n", 0, 0},
      {"250-mx\r\n250-SMTPUTF8 \r\n250 ENHANCEDSTATUSCODES\r\n",
       static_cast<std::uint16_t>(bit(Extension::smtputf8) | bit(Extension::enhanced_status_codes)), 0},
  };
  for (const Row& row : rows) {
    const Capabilities found = parse_ehlo_reply(row.reply);
    EXPECT_EQ(found.extensions.bits(), row.bits) << row.reply;
    EXPECT_EQ(found.size_limit, row.limit) << row.reply;
  }
}

TEST(Capabilities, AuthAndXclient) {
  Capabilities offered;
  offered.auth = {Mechanism::xoauth2, Mechanism::plain, Mechanism::cram_md5};
  const std::string reply = format_ehlo_reply("mx", offered);
  EXPECT_EQ(reply, "250-mx\r\n250 AUTH PLAIN CRAM-MD5 XOAUTH2\r\n");
  EXPECT_EQ(parse_ehlo_reply(reply), offered);
  const auto parse = [](std::string_view line) {
    return parse_ehlo_reply("250-mx\r\n250 " + std::string(line) + "\r\n");
  };
  EXPECT_EQ(parse("auth  plain GSSAPI Login ").auth, (MechanismSet{Mechanism::plain, Mechanism::login}));
  EXPECT_TRUE(parse("AUTH").auth.empty());
  EXPECT_TRUE(parse("AUTH=PLAIN").auth.empty());
  EXPECT_TRUE(parse("AUTHX PLAIN").auth.empty());
  EXPECT_TRUE(parse("AUTH PLAINX").auth.empty());
  EXPECT_TRUE(parse("XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR").xclient_login);
  EXPECT_TRUE(parse("xclient login").xclient_login);
  EXPECT_FALSE(parse("XCLIENT NAME LOGINX").xclient_login);
  EXPECT_FALSE(parse("XFORWARD LOGIN").xclient_login);
  EXPECT_FALSE(format_ehlo_reply("mx", parse("XCLIENT LOGIN")).find("XCLIENT") != std::string::npos);
}

TEST(Capabilities, KeywordsThereAndBack) {
  for (std::uint16_t bit = 1; bit <= static_cast<std::uint16_t>(Extension::starttls);
       bit = static_cast<std::uint16_t>(bit << 1)) {
    const auto extension = static_cast<Extension>(bit);
    std::string keyword(extension_keyword(extension));
    ASSERT_FALSE(keyword.empty());
    Extension found{};
    EXPECT_TRUE(parse_extension(keyword, found));
    EXPECT_EQ(found, extension);
    for (char& c : keyword) c = static_cast<char>(std::tolower(c));
    EXPECT_TRUE(parse_extension(keyword, found));
    EXPECT_EQ(found, extension);
    EXPECT_FALSE(parse_extension(keyword + "x", found));
  }
  Extension found{};
  EXPECT_FALSE(parse_extension("", found));
  EXPECT_FALSE(parse_extension("AUTH", found));
}

}  // namespace
}  // namespace ringmx::smtp
