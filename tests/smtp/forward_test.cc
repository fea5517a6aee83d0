// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/forward.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "ringmx/smtp/command.h"

namespace ringmx::smtp {
namespace {

ExtensionSet all_but(Extension a) {
  ExtensionSet set = ExtensionSet::all();
  set.remove(a);
  return set;
}

std::string mail(std::string_view mailbox, std::string_view parameters, ExtensionSet upstream) {
  std::string out;
  append_mail_command(out, mailbox, parameters, upstream);
  return out;
}

std::string rcpt(std::string_view mailbox, std::string_view parameters) {
  std::string out;
  append_rcpt_command(out, mailbox, parameters);
  return out;
}

TEST(Forward, MailPassesAsItWasWritten) {
  const ExtensionSet all = ExtensionSet::all();
  EXPECT_EQ(mail("", "", all), "MAIL FROM:<>\r\n");
  EXPECT_EQ(mail("", "", {}), "MAIL FROM:<>\r\n");
  EXPECT_EQ(mail("a@b.example", "", all), "MAIL FROM:<a@b.example>\r\n");
  EXPECT_EQ(mail("\"a b\"@b.example", "", all), "MAIL FROM:<\"a b\"@b.example>\r\n");
  const std::string_view parameters = "size=100 Body=8BITMIME SMTPUTF8 RET=HDRS ENVID=q+2Bq";
  EXPECT_EQ(mail("a@b", parameters, all), "MAIL FROM:<a@b> " + std::string(parameters) + "\r\n");
}

TEST(Forward, MailLeavesOutSizeAndBodyThatTheUpstreamDoesNotKnow) {
  const std::string_view parameters = "SIZE=100 BODY=8BITMIME RET=FULL";
  EXPECT_EQ(mail("a@b", parameters, all_but(Extension::size)), "MAIL FROM:<a@b> BODY=8BITMIME RET=FULL\r\n");
  EXPECT_EQ(mail("a@b", parameters, all_but(Extension::eight_bit_mime)),
            "MAIL FROM:<a@b> SIZE=100 RET=FULL\r\n");
  EXPECT_EQ(mail("a@b", parameters, {}), "MAIL FROM:<a@b> RET=FULL\r\n");
  // In any case, in any place, alone.
  EXPECT_EQ(mail("a@b", "sIzE=1", {}), "MAIL FROM:<a@b>\r\n");
  EXPECT_EQ(mail("a@b", "bOdY=7bit", {}), "MAIL FROM:<a@b>\r\n");
  EXPECT_EQ(mail("a@b", "RET=FULL BODY=7BIT ENVID=x SIZE=1", {}), "MAIL FROM:<a@b> RET=FULL ENVID=x\r\n");
  // Only these two: what merely looks alike is not ours to drop.
  EXPECT_EQ(mail("a@b", "SIZE BODY XSIZE=1 ENVID=SIZE=1 SIZ", {}),
            "MAIL FROM:<a@b> SIZE BODY XSIZE=1 ENVID=SIZE=1 SIZ\r\n");
}

// RFC 4954 section 5: what a client claims about the submitter is never passed on.
TEST(Forward, MailNamesNoSubmitter) {
  const ExtensionSet all = ExtensionSet::all();
  ExtensionSet authenticated = all;
  authenticated.add(Extension::auth);
  EXPECT_EQ(mail("a@b", "SIZE=1 AUTH=e+3Dmc2@example.com RET=FULL", all),
            "MAIL FROM:<a@b> SIZE=1 RET=FULL\r\n");
  EXPECT_EQ(mail("a@b", "SIZE=1 auth=e+3Dmc2@example.com RET=FULL", authenticated),
            "MAIL FROM:<a@b> SIZE=1 AUTH=<> RET=FULL\r\n");
  EXPECT_EQ(mail("a@b", "AUTH=<>", all), "MAIL FROM:<a@b>\r\n");
  EXPECT_EQ(mail("a@b", "AUTH=<>", authenticated), "MAIL FROM:<a@b> AUTH=<>\r\n");
  EXPECT_EQ(mail("a@b", "SIZE=1", authenticated), "MAIL FROM:<a@b> SIZE=1\r\n");
}

TEST(Forward, MailPutsOneSpaceBetweenParameters) {
  EXPECT_EQ(mail("a@b", "SIZE=1   RET=FULL", ExtensionSet::all()), "MAIL FROM:<a@b> SIZE=1 RET=FULL\r\n");
  EXPECT_EQ(mail("a@b", "  SIZE=1  ", ExtensionSet::all()), "MAIL FROM:<a@b> SIZE=1\r\n");
  EXPECT_EQ(mail("a@b", "   ", ExtensionSet::all()), "MAIL FROM:<a@b>\r\n");
}

// Whatever the upstream offers, what it gets is a command that it can parse to the same meaning.
TEST(Forward, MailReadsBackTheSame) {
  const std::string_view argument =
      "FROM:<\"x y\"@b.example> SIZE=123 BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=HDRS ENVID=e";
  MailCommand parsed;
  ASSERT_EQ(parse_mail(argument, ExtensionSet::all(), parsed), SyntaxFault::none);
  for (std::uint16_t bits = 0; bits <= ExtensionSet::all().bits(); ++bits) {
    ExtensionSet upstream(bits);
    const std::string line = mail(parsed.reverse_path.mailbox, parsed.parameters, upstream);
    // Those that are promises for the whole way are in the relay's own offer only if the upstream has them.
    upstream.add(Extension::smtputf8);
    upstream.add(Extension::dsn);
    upstream.add(Extension::requiretls);
    const Command command = parse_command(std::string_view(line).substr(0, line.size() - 2));
    EXPECT_EQ(command.verb, Verb::mail);
    MailCommand again;
    ASSERT_EQ(parse_mail(command.argument, upstream, again), SyntaxFault::none) << line;
    EXPECT_EQ(again.reverse_path.mailbox, parsed.reverse_path.mailbox);
    EXPECT_EQ(again.size, upstream.has(Extension::size) ? 123U : 0U);
    EXPECT_EQ(again.body,
              upstream.has(Extension::eight_bit_mime) ? BodyType::eight_bit_mime : BodyType::unstated);
    EXPECT_TRUE(again.smtputf8);
    EXPECT_TRUE(again.requiretls);
  }
}

TEST(Forward, Rcpt) {
  EXPECT_EQ(rcpt("a@b.example", ""), "RCPT TO:<a@b.example>\r\n");
  EXPECT_EQ(rcpt("Postmaster", ""), "RCPT TO:<Postmaster>\r\n");
  EXPECT_EQ(rcpt("a@b", "NOTIFY=NEVER ORCPT=rfc822;a+2Bb@c"),
            "RCPT TO:<a@b> NOTIFY=NEVER ORCPT=rfc822;a+2Bb@c\r\n");
}

TEST(Forward, Bdat) {
  std::string out;
  append_bdat_command(out, 0, true);
  append_bdat_command(out, 16384, false);
  append_bdat_command(out, std::numeric_limits<std::uint64_t>::max(), true);
  EXPECT_EQ(out, "BDAT 0 LAST\r\nBDAT 16384\r\nBDAT 18446744073709551615 LAST\r\n");
}

TEST(Forward, Appends) {
  std::string out = "x";
  append_mail_command(out, "a@b", "", {});
  append_rcpt_command(out, "c@d", "");
  append_bdat_command(out, 1, false);
  EXPECT_EQ(out, "xMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 1\r\n");
}

TEST(Forward, WhatEndsAtEachHopIsNoPromiseAboutTheWholeWay) {
  for (const Extension e : {Extension::pipelining, Extension::size, Extension::chunking, Extension::starttls})
    EXPECT_TRUE(hop_by_hop.has(e)) << extension_keyword(e);
  for (const Extension e : {Extension::eight_bit_mime, Extension::smtputf8, Extension::dsn,
                            Extension::enhanced_status_codes, Extension::requiretls})
    EXPECT_FALSE(hop_by_hop.has(e)) << extension_keyword(e);
}

}  // namespace
}  // namespace ringmx::smtp
