// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/answer.h"

#include <gtest/gtest.h>

#include <string>

namespace ringmx::policy {
namespace {

using namespace std::literals;

TEST(MakeReply, TakesCodesOfRefusalsOnly) {
  EXPECT_EQ(make_reply("550", "no"), "550 no\r\n");
  EXPECT_EQ(make_reply("530 5.7.0", "Must issue a STARTTLS command first"),
            "530 5.7.0 Must issue a STARTTLS command first\r\n");
  EXPECT_EQ(make_reply("421 4.7.0", ""), "421 4.7.0 \r\n");
  for (const std::string_view bad : {"",          "5",          "55",          "250",
                                     "354",       "650",        "560",         "5505",
                                     "55x",       "550-",       "550 ",        "550 2.0.0",
                                     "550 4.7.0", "550 5.7",    "550 5.7.1.1", "550 5.7.1000",
                                     "550 5..1",  "550 5.7.1 ", "550\r\n",     "550 5.7.1\r\n250 ok",
                                     " 550",      "550-5.7.1"})
    EXPECT_EQ(make_reply(bad, "text"), "") << bad;
}

TEST(MakeReply, LetsNoOctetThroughThatIsNoText) {
  for (int octet = 0; octet < 256; ++octet) {
    const std::string reply = make_reply("550", std::string(1, static_cast<char>(octet)));
    if (octet == '\t') {
      EXPECT_EQ(reply, "550  \r\n");
    } else if (octet < ' ' || octet == 0x7f) {
      EXPECT_EQ(reply, "") << octet;
    } else if (octet > 0x7f) {
      EXPECT_EQ(reply, "550 ?\r\n") << octet;
    } else {
      EXPECT_EQ(reply, "550 "s + static_cast<char>(octet) + "\r\n");
    }
  }
}

TEST(MakeReply, FitsIntoALine) {
  EXPECT_EQ(make_reply("550", std::string(506, 'x')), "550 " + std::string(506, 'x') + "\r\n");
  EXPECT_EQ(make_reply("550", std::string(507, 'x')).size(), 512U);
  EXPECT_EQ(make_reply("550", std::string(100000, 'x')).size(), 512U);
}

TEST(Printable, IsShortAndOnOneLine) {
  EXPECT_EQ(printable("a\r\nb\0\x80"sv), "a??b??");
  EXPECT_EQ(printable(std::string(1000, 'x')), std::string(200, 'x') + "...");
}

}  // namespace
}  // namespace ringmx::policy
