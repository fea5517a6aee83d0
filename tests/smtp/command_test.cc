// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/command.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "path_invariants.h"

namespace ringmx::smtp {
namespace {

using namespace std::literals;
using F = SyntaxFault;

ExtensionSet extensions(std::initializer_list<Extension> list) {
  ExtensionSet set;
  for (const Extension e : list) set.add(e);
  return set;
}

// Calls use(s) for every string of at most `longest` characters of `alphabet`.
void for_every_string(std::string_view alphabet, std::size_t longest,
                      const std::function<void(const std::string&)>& use) {
  std::string s;
  const std::function<void()> grow = [&] {
    use(s);
    if (s.size() == longest) return;
    for (const char c : alphabet) {
      s.push_back(c);
      grow();
      s.pop_back();
    }
  };
  grow();
}

F mail_fault(std::string_view argument, ExtensionSet offered = ExtensionSet::all()) {
  MailCommand out;
  return parse_mail(argument, offered, out);
}

F rcpt_fault(std::string_view argument, ExtensionSet offered = ExtensionSet::all(), bool smtputf8 = false) {
  RcptCommand out;
  return parse_rcpt(argument, offered, smtputf8, out);
}

TEST(ParseCommand, SplitsVerbAndArgument) {
  struct Row {
    std::string_view line;
    Verb verb;
    std::string_view argument;
  };
  const Row rows[] = {
      {"NOOP", Verb::noop, ""},
      {"nOoP", Verb::noop, ""},
      {"NOOP  a  b \t ", Verb::noop, "a  b"},
      {"NOOP\ta", Verb::noop, "a"},
      {"NOOP \t", Verb::noop, ""},
      {"MAIL FROM:<a@b> SIZE=1", Verb::mail, "FROM:<a@b> SIZE=1"},
      {" NOOP", Verb::unknown, "NOOP"},
      {"\tNOOP", Verb::unknown, "NOOP"},
      {"", Verb::unknown, ""},
      {" ", Verb::unknown, ""},
      {"NOO", Verb::unknown, ""},
      {"NOOPS", Verb::unknown, ""},
      {"XFORWARD1", Verb::unknown, ""},
      {"XSTARTTLS", Verb::unknown, ""},  // its last eight letters are a verb
      {"NOOP\0"sv, Verb::unknown, ""},
      {"\0NOOP"sv, Verb::unknown, ""},
      {"N\x0fOP", Verb::unknown, ""},  // 'O' without its upper bits
      {"NOOP\x80", Verb::unknown, ""},
  };
  for (const Row& row : rows) {
    const Command command = parse_command(row.line);
    EXPECT_EQ(command.verb, row.verb) << row.line;
    EXPECT_EQ(command.argument, row.argument) << row.line;
  }
}

TEST(ParseCommand, KnowsEveryVerbInEveryCase) {
  for (std::size_t i = 1; i < static_cast<std::size_t>(Verb::foreign); ++i) {
    const Verb verb = static_cast<Verb>(i);
    const std::string name(verb_name(verb));
    ASSERT_FALSE(name.empty());
    for (unsigned upper = 0; upper < 1U << name.size(); ++upper) {
      std::string line = name;
      for (std::size_t k = 0; k < line.size(); ++k) {
        if ((upper >> k & 1U) != 0) line[k] = static_cast<char>(line[k] - 'a' + 'A');
      }
      EXPECT_EQ(parse_command(line).verb, verb) << line;
    }
  }
}

// One octet away from a verb is no verb, save for the case of a letter.
TEST(ParseCommand, NothingElseIsAVerb) {
  for (std::size_t i = 1; i < static_cast<std::size_t>(Verb::foreign); ++i) {
    const std::string name(verb_name(static_cast<Verb>(i)));
    for (std::size_t k = 0; k < name.size(); ++k) {
      for (int octet = 0; octet < 256; ++octet) {
        std::string line = name;
        line[k] = static_cast<char>(octet);
        if (line[k] == name[k] || line[k] == name[k] - 'a' + 'A') continue;
        const Verb verb = parse_command(line).verb;
        if (verb == Verb::help || verb == Verb::helo) continue;  // help, helo
        EXPECT_TRUE(verb == Verb::unknown || verb == Verb::foreign) << name << ' ' << k << ' ' << octet;
      }
    }
  }
}

TEST(ParseCommand, KnowsOtherProtocols) {
  for (const std::string_view line :
       {"GET / HTTP/1.1"sv, "get /"sv, "POST /x HTTP/1.0"sv, "HEAD / HTTP/1.1"sv, "PUT /a HTTP/1.1"sv,
        "DELETE /a HTTP/1.1"sv, "CONNECT mx:25 HTTP/1.1"sv, "OPTIONS * HTTP/1.1"sv, "PATCH /a HTTP/1.1"sv,
        "TRACE / HTTP/1.1"sv, "PRI * HTTP/2.0"sv, "Host: mx.example"sv, "content-type:text/plain"sv,
        "\x16\x03\x01\x02\x00\x01"sv, "\x16\x03"sv}) {
    EXPECT_EQ(parse_command(line).verb, Verb::foreign) << line;
  }
  for (const std::string_view line :
       {"GET"sv, "POST "sv, "GETS /"sv, "\x16"sv, "\x16 \x03"sv, ": x"sv, "Ho st: x"sv, "Héader: x"sv}) {
    EXPECT_EQ(parse_command(line).verb, Verb::unknown) << line;
  }
}

TEST(ParseMail, Paths) {
  struct Row {
    std::string_view argument;
    std::string_view mailbox, local_part, domain;
  };
  const Row rows[] = {
      {"FROM:<>", "", "", ""},
      {"FROM:  <>", "", "", ""},
      {"from:<a@b>", "a@b", "a", "b"},
      {"FROM: <a@b>", "a@b", "a", "b"},
      {"FROM:<a@b>  ", "a@b", "a", "b"},
      {"FROM:a@b", "a@b", "a", "b"},
      {"FROM: a@b ", "a@b", "a", "b"},
      {"FROM:<user>", "user", "user", ""},
      {"FROM:<a..b@x>", "a..b@x", "a..b", "x"},
      {"FROM:<.a.@x>", ".a.@x", ".a.", "x"},
      {"FROM:<a+b=c/d@x_y.example.>", "a+b=c/d@x_y.example.", "a+b=c/d", "x_y.example."},
      {"FROM:<!#$%&'*+-/=?^_`{|}~@x>", "!#$%&'*+-/=?^_`{|}~@x", "!#$%&'*+-/=?^_`{|}~", "x"},
      {R"(FROM:<"a b"@x>)", R"("a b"@x)", R"("a b")", "x"},
      {R"(FROM:<"a\"<>@\ b"@x>)", R"("a\"<>@\ b"@x)", R"("a\"<>@\ b")", "x"},
      {R"(FROM:"a b"@x)", R"("a b"@x)", R"("a b")", "x"},
      {R"(FROM:<""@x>)", R"(""@x)", R"("")", "x"},
      {"FROM:<@one,@two.example:a@b>", "a@b", "a", "b"},
      {"FROM:<@[127.0.0.1]:a@b>", "a@b", "a", "b"},
      {"FROM:<a@[127.0.0.1]>", "a@[127.0.0.1]", "a", "[127.0.0.1]"},
      {"FROM:<a@[IPv6:::1]>", "a@[IPv6:::1]", "a", "[IPv6:::1]"},
      {"FROM:<a@[ipv6:2001:db8::192.0.2.1]>", "a@[ipv6:2001:db8::192.0.2.1]", "a",
       "[ipv6:2001:db8::192.0.2.1]"},
      {"FROM:<a@[x-tag:any!thing]>", "a@[x-tag:any!thing]", "a", "[x-tag:any!thing]"},
  };
  for (const Row& row : rows) {
    MailCommand mail;
    EXPECT_EQ(parse_mail(row.argument, {}, mail), F::none) << row.argument;
    EXPECT_EQ(mail.reverse_path.mailbox, row.mailbox) << row.argument;
    EXPECT_EQ(mail.reverse_path.local_part, row.local_part) << row.argument;
    EXPECT_EQ(mail.reverse_path.domain, row.domain) << row.argument;
    EXPECT_EQ(mail.parameters, "") << row.argument;
    EXPECT_EQ(wrong_with(mail.reverse_path, true), "") << row.argument;
  }
}

TEST(ParseMail, RefusedPaths) {
  const std::pair<std::string_view, F> rows[] = {
      {"", F::syntax},
      {"FROM", F::syntax},
      {"FROM:", F::syntax},
      {"FROM:  ", F::syntax},
      {"FROM <a@b>", F::syntax},
      {"FROM :<a@b>", F::syntax},
      {" FROM:<a@b>", F::syntax},
      {"TO:<a@b>", F::syntax},
      {"FROM:<a@b>SIZE=1", F::syntax},
      {"FROM:<a@b>>", F::syntax},
      {"FROM:<><>", F::syntax},
      {"FROM:<a@b>\tSIZE=1", F::syntax},
      {"FROM:<a\0@b>"sv, F::syntax},
      {"FROM:<\"a\x7f\"@b>", F::syntax},
      {"FROM:<a@b>\rRCPT TO:<c@d>", F::syntax},
      {"FROM:<a@b\n>", F::syntax},
      {"FROM:<", F::address},
      {"FROM:<a@b", F::address},
      {"FROM:a@b>", F::address},
      {"FROM:a", F::address},
      {"FROM:@b", F::address},
      {"FROM: SIZE=100", F::address},
      {"FROM:<<a@b>>", F::address},
      {"FROM:< a@b>", F::address},
      {"FROM:<a@b >", F::address},
      {"FROM:<a b@c>", F::address},
      {"FROM:<@b>", F::address},
      {"FROM:<a@>", F::address},
      {"FROM:<a@.b>", F::address},
      {"FROM:<a@b..c>", F::address},
      {"FROM:<a@b..>", F::address},
      {"FROM:<a@b@c>", F::address},
      {"FROM:<a,b@c>", F::address},
      {"FROM:<a@b,c@d>", F::address},
      {"FROM:<a(b)@c>", F::address},
      {"FROM:<a\\@b@c>", F::address},
      {"FROM:<\"a@b>", F::address},
      {"FROM:<\"a\\", F::address},
      {"FROM:<\"a\"b@c>", F::address},
      {"FROM:<a\"b\"@c>", F::address},
      {"FROM:<\"a\\\xc3\xa9\"@c>", F::address},
      {"FROM:<@a,b:c@d>", F::address},
      {"FROM:<@a@b:c@d>", F::address},
      {"FROM:<@a:>", F::address},
      {"FROM:@a:b@c", F::address},
      {"FROM:<a@[]>", F::address},
      {"FROM:<a@[127.0.0.1>", F::address},
      {"FROM:<a@[127.0.0.256]>", F::address},
      {"FROM:<a@[127.0.0]>", F::address},
      {"FROM:<a@[127.0.0.0001]>", F::address},
      {"FROM:<a@[127.0.0.1].x>", F::address},
      {"FROM:<a@[IPv6:]>", F::address},
      {"FROM:<a@[IPv6:1::2::3]>", F::address},
      {"FROM:<a@[IPv6:12345::]>", F::address},
      {"FROM:<a@[tag-:x]>", F::address},
      {"FROM:<a@[tag:]>", F::address},
      {"FROM:<a@[tag:<x>]>", F::address},
      {"FROM:<a@[::1]>", F::address},
  };
  for (const auto& [argument, fault] : rows) EXPECT_EQ(mail_fault(argument), fault) << argument;
}

TEST(ParseMail, PathLimits) {
  const auto path = [](std::size_t local, std::size_t domain) {
    return "<" + std::string(local, 'l') + "@" + std::string(domain, 'd') + ">";
  };
  EXPECT_EQ(mail_fault("FROM:" + path(64, 10)), F::none);
  EXPECT_EQ(mail_fault("FROM:" + path(65, 10)), F::none);
  EXPECT_EQ(mail_fault("FROM:" + path(243, 10)), F::none);
  EXPECT_EQ(mail_fault("FROM:" + path(244, 10)), F::address);
  EXPECT_EQ(mail_fault("FROM:" + path(1, 252)), F::none);  // 256 with "<", "@", ">"
  EXPECT_EQ(mail_fault("FROM:" + path(1, 253)), F::address);
  EXPECT_EQ(mail_fault("FROM:" + path(64, 189)), F::none);
  EXPECT_EQ(mail_fault("FROM:" + path(64, 190)), F::address);
  // Without brackets they count all the same: ringmx puts them there.
  EXPECT_EQ(mail_fault("FROM:l@" + std::string(252, 'd')), F::none);
  EXPECT_EQ(mail_fault("FROM:l@" + std::string(253, 'd')), F::address);
  // A source route counts.
  EXPECT_EQ(mail_fault("FROM:<@" + std::string(200, 'r') + ":a@" + std::string(50, 'd') + ">"), F::none);
  EXPECT_EQ(mail_fault("FROM:<@" + std::string(200, 'r') + ":a@" + std::string(51, 'd') + ">"), F::address);
}

TEST(ParseMail, Parameters) {
  struct Row {
    std::string_view parameters;
    F fault;
    std::uint64_t size = 0;
    BodyType body = BodyType::unstated;
    bool smtputf8 = false;
  };
  const Row rows[] = {
      {"SIZE=0", F::none},
      {"size=12345", F::none, 12345},
      {"SIZE=18446744073709551615", F::none, 18446744073709551615U},
      {"SIZE=18446744073709551616", F::none, 18446744073709551615U},
      {"SIZE=99999999999999999999", F::none, 18446744073709551615U},
      {"SIZE=000000000000000000001", F::bad_parameter},
      {"SIZE", F::bad_parameter},
      {"SIZE=", F::bad_parameter},
      {"SIZE=-1", F::bad_parameter},
      {"SIZE=+1", F::bad_parameter},
      {"SIZE=1x", F::bad_parameter},
      {"SIZE=1 SIZE=1", F::bad_parameter},
      {"BODY=7bit", F::none, 0, BodyType::seven_bit},
      {"body=8BITMIME", F::none, 0, BodyType::eight_bit_mime},
      {"BODY=BINARYMIME", F::bad_parameter},
      {"BODY", F::bad_parameter},
      {"BODY=7BIT BODY=7BIT", F::bad_parameter},
      {"SMTPUTF8", F::none, 0, BodyType::unstated, true},
      {"smtputf8", F::none, 0, BodyType::unstated, true},
      {"SMTPUTF8=yes", F::bad_parameter},
      {"SMTPUTF8=", F::bad_parameter},
      {"SMTPUTF8 SMTPUTF8", F::bad_parameter},
      {"requiretls", F::none},
      {"REQUIRETLS=", F::bad_parameter},
      {"REQUIRETLS=yes", F::bad_parameter},
      {"REQUIRETLS REQUIRETLS", F::bad_parameter},
      {"RET=FULL", F::none},
      {"RET=hdrs", F::none},
      {"RET=SOME", F::bad_parameter},
      {"RET", F::bad_parameter},
      {"ENVID=a+2Bb", F::none},
      {"ENVID=a+2bb", F::none},
      {"ENVID=", F::bad_parameter},
      {"ENVID", F::bad_parameter},
      {"ENVID=a+2", F::bad_parameter},
      {"ENVID=a+", F::bad_parameter},
      {"ENVID=a+ZZ", F::bad_parameter},
      {"ENVID=a+0D+0A", F::bad_parameter},
      {"ENVID=a+7f", F::bad_parameter},
      {"ENVID=a=b", F::bad_parameter},
      {"ENVID=\xc3\xa9", F::bad_parameter},
      {"SIZE=5 BODY=8BITMIME  SMTPUTF8 RET=FULL ENVID=x", F::none, 5, BodyType::eight_bit_mime, true},
      {"AUTH=<>", F::unknown_parameter},
      {"NOTIFY=NEVER", F::unknown_parameter},
      {"X-Y=1", F::unknown_parameter},
      {"foo", F::unknown_parameter},
      {"SIZE =1", F::bad_parameter},
      {"=1", F::syntax},
      {"-SIZE=1", F::syntax},
      {"SI_ZE=1", F::syntax},
      {"\xc3\xa9=1", F::syntax},
      {"SIZE\x01=1", F::syntax},
      {"SIZE=1\tBODY=7BIT", F::syntax},
  };
  for (const Row& row : rows) {
    const std::string argument = "FROM:<a@b>  " + std::string(row.parameters) + " ";
    MailCommand mail;
    EXPECT_EQ(parse_mail(argument, ExtensionSet::all(), mail), row.fault) << row.parameters;
    if (row.fault != F::none) continue;
    EXPECT_EQ(mail.parameters, row.parameters);
    EXPECT_EQ(mail.size, row.size) << row.parameters;
    EXPECT_EQ(mail.body, row.body) << row.parameters;
    EXPECT_EQ(mail.smtputf8, row.smtputf8) << row.parameters;
  }
}

TEST(ParseMail, OnlyWhatIsOffered) {
  const std::pair<Extension, std::string_view> rows[] = {
      {Extension::size, "SIZE=1"},           {Extension::eight_bit_mime, "BODY=8BITMIME"},
      {Extension::smtputf8, "SMTPUTF8"},     {Extension::dsn, "RET=FULL"},
      {Extension::requiretls, "REQUIRETLS"}, {Extension::dsn, "ENVID=x"},
  };
  for (const auto& [extension, parameter] : rows) {
    const std::string argument = "FROM:<a@b> " + std::string(parameter);
    ExtensionSet others = ExtensionSet::all();
    others.remove(extension);
    EXPECT_EQ(mail_fault(argument, others), F::unknown_parameter) << parameter;
    EXPECT_EQ(mail_fault(argument, extensions({extension})), F::none) << parameter;
  }
}

TEST(ParseRcpt, PathsAndParameters) {
  const std::pair<std::string_view, F> rows[] = {
      {"TO:<a@b>", F::none},
      {"to: a@b", F::none},
      {"TO:<Postmaster>", F::none},
      {"TO:<pOSTMASTEr>", F::none},
      {"TO:<postmaster@b>", F::none},
      {"TO:<postmasters>", F::address},
      {"TO:<user>", F::address},
      {"TO:<\"postmaster\">", F::address},
      {"TO:postmaster", F::address},
      {"TO:<>", F::address},
      {"TO:", F::syntax},
      {"FROM:<a@b>", F::syntax},
      {"TO:<a@b> NOTIFY=NEVER", F::none},
      {"TO:<a@b> NOTIFY=success,FAILURE,Delay", F::none},
      {"TO:<a@b> NOTIFY=DELAY", F::none},
      {"TO:<a@b> NOTIFY=NEVER,DELAY", F::bad_parameter},
      {"TO:<a@b> NOTIFY=DELAY,", F::bad_parameter},
      {"TO:<a@b> NOTIFY=,DELAY", F::bad_parameter},
      {"TO:<a@b> NOTIFY=", F::bad_parameter},
      {"TO:<a@b> NOTIFY", F::bad_parameter},
      {"TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER", F::bad_parameter},
      {"TO:<a@b> ORCPT=rfc822;a+2Bc@b", F::none},
      {"TO:<a@b> ORCPT=rfc822;", F::none},
      {"TO:<a@b> ORCPT=rfc822", F::bad_parameter},
      {"TO:<a@b> ORCPT=;a@b", F::bad_parameter},
      {"TO:<a@b> ORCPT", F::bad_parameter},
      {"TO:<a@b> ORCPT=rfc822;a=b", F::bad_parameter},
      {"TO:<a@b> ORCPT=rfc822;a+0Ab", F::bad_parameter},
      {"TO:<a@b> ORCPT=utf-8;a\\x{E9}@b", F::none},
      {"TO:<a@b> ORCPT=utf-8;\xc3\xa9@b", F::bad_parameter},  // without SMTPUTF8
      {"TO:<a@b> NOTIFY=NEVER ORCPT=rfc822;a", F::none},
      {"TO:<a@b> SIZE=1", F::unknown_parameter},
      {"TO:<a@b>NOTIFY=NEVER", F::syntax},
  };
  for (const auto& [argument, fault] : rows) EXPECT_EQ(rcpt_fault(argument), fault) << argument;
  EXPECT_EQ(rcpt_fault("TO:<a@b> NOTIFY=NEVER", {}), F::unknown_parameter);
  EXPECT_EQ(rcpt_fault("TO:<a@b> ORCPT=rfc822;a", {}), F::unknown_parameter);
  EXPECT_EQ(rcpt_fault("TO:<a@b> ORCPT=utf-8;\xc3\xa9@b", ExtensionSet::all(), true), F::none);
  EXPECT_EQ(rcpt_fault("TO:<a@b> ORCPT=utf-8;\xc3@b", ExtensionSet::all(), true), F::bad_parameter);
  EXPECT_EQ(rcpt_fault("TO:<a@b> ORCPT=rfc822;\xc3\xa9@b", ExtensionSet::all(), true), F::bad_parameter);
}

TEST(ParsePath, EightBit) {
  for (const std::string_view path : {"\xc3\xa9@b"sv, "a@\xc3\xa9.b"sv, "\"\xc3\xa9\"@b"sv}) {
    const std::string from = "FROM:<" + std::string(path) + ">";
    const std::string to = "TO:<" + std::string(path) + ">";
    EXPECT_EQ(mail_fault(from), F::non_ascii_address) << path;
    EXPECT_EQ(mail_fault(from + " SMTPUTF8"), F::none) << path;
    EXPECT_EQ(mail_fault(from + " SMTPUTF8", {}), F::unknown_parameter) << path;
    EXPECT_EQ(rcpt_fault(to), F::non_ascii_address) << path;
    EXPECT_EQ(rcpt_fault(to, {}, true), F::none) << path;
  }
  EXPECT_EQ(mail_fault("FROM:<@\xff:a@b> SMTPUTF8"), F::bad_utf8);
  // What comes behind the line does not complete a character.
  EXPECT_EQ(rcpt_fault("TO:a@\xc3\xa9"sv.substr(0, 6), {}, true), F::bad_utf8);
  EXPECT_EQ(rcpt_fault("TO:<a@b> ORCPT=utf-8;\xc3\xa9"sv.substr(0, 22), ExtensionSet::all(), true),
            F::bad_parameter);
}

// Every sequence of up to four octets of which the first is above 0x7f, against an encoder: a
// sequence is valid if and only if it is what the encoder makes of code points.
TEST(ParsePath, Utf8Exhaustively) {
  const auto encode = [](char32_t p) {
    const auto tail = [](char32_t bits) { return static_cast<char>(0x80U | (bits & 0x3fU)); };
    std::string s;
    if (p < 0x80) return std::string(1, static_cast<char>(p));
    if (p < 0x800) {
      s = {static_cast<char>(0xc0U | p >> 6), tail(p)};
    } else if (p < 0x10000) {
      s = {static_cast<char>(0xe0U | p >> 12), tail(p >> 6), tail(p)};
    } else {
      s = {static_cast<char>(0xf0U | p >> 18), tail(p >> 12), tail(p >> 6), tail(p)};
    }
    return s;
  };
  std::unordered_set<std::string> valid;
  for (char32_t p = 0x80; p <= 0x10ffff; ++p) {
    if (p >= 0xd800 && p <= 0xdfff) continue;
    valid.insert(encode(p));
  }
  std::string argument = "TO:<....@b>";
  const auto accepted = [&](std::size_t size) {
    argument.resize(4 + size);
    argument += "@b>";
    const bool result = rcpt_fault(argument, {}, true) == F::none;
    return result;
  };
  const auto set = [&](std::size_t i, unsigned octet) {
    argument[4 + i] = static_cast<char>(octet);
    return argument.substr(4, i + 1);
  };
  std::size_t seen = 0;
  for (unsigned a = 0x80; a < 0x100; ++a) {
    ASSERT_FALSE((argument.resize(8), set(0, a), accepted(1))) << a;
    for (unsigned b = 0x80; b < 0x100; ++b) {
      argument.resize(8);
      set(0, a);
      const std::string two = set(1, b);
      const bool good = accepted(2);
      ASSERT_EQ(good, valid.contains(two));
      seen += good ? 1 : 0;
      for (unsigned c = 0x80; c < 0x100; c += (a >= 0xe0 && a < 0xf8) ? 1 : 16) {
        argument.resize(8);
        set(0, a);
        set(1, b);
        const std::string three = set(2, c);
        const bool good_three = accepted(3);
        if (valid.contains(three)) {
          ASSERT_TRUE(good_three);
          ++seen;
        } else {
          ASSERT_FALSE(good_three);  // two valid ones in three octets would need an ASCII octet
        }
        if (a < 0xf0 || a > 0xf5) continue;
        for (const unsigned d : {0x7fU, 0x80U, 0x81U, 0xbfU, 0xc0U, 0xffU}) {
          argument.resize(8);
          set(0, a);
          set(1, b);
          set(2, c);
          const std::string four = set(3, d);
          const bool good_four = accepted(4);
          ASSERT_EQ(good_four, valid.contains(four)) << a << ' ' << b << ' ' << c << ' ' << d;
        }
      }
    }
  }
  EXPECT_EQ(seen, 0x800U - 0x80U + 0x10000U - 0x800U - 0x800U);
}

TEST(ParsePath, AddressLiteralsAsTheSystemReadsThem) {
  std::size_t good = 0;
  for_every_string(":1.", 12, [&](const std::string& s) {
    std::array<unsigned char, 16> address{};
    if (s.find(':') == s.npos && !s.empty()) {
      const bool expected = inet_pton(AF_INET, s.c_str(), address.data()) == 1;
      ASSERT_EQ(mail_fault("FROM:<a@[" + s + "]>") == F::none, expected) << s;
      good += expected ? 1 : 0;
    }
    const bool expected = inet_pton(AF_INET6, s.c_str(), address.data()) == 1;
    ASSERT_EQ(mail_fault("FROM:<a@[IPv6:" + s + "]>") == F::none, expected) << s;
    good += expected ? 1 : 0;
  });
  EXPECT_GT(good, 100U);
  for (const std::string_view s : {"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:1.2.3.4", "abcd::EF01", "1::3:4:5:6:7:8",
                                   "::2:3:4:5:6:7:8", "1:2:3:4:5:6:7::"}) {
    EXPECT_EQ(mail_fault("FROM:<a@[IPv6:" + std::string(s) + "]>"), F::none) << s;
  }
  for (const std::string_view s : {"1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:1.2.3.4",
                                   "1:2:3:4:5:6:7:8::", "g::", "1.2.3.4::", "::1.2.3.4:5", "::%eth0"}) {
    EXPECT_EQ(mail_fault("FROM:<a@[IPv6:" + std::string(s) + "]>"), F::address) << s;
  }
}

// The oracle does not recognise, it generates: all the strings that the grammar makes of a small
// alphabet. Accepted must be these and no others.
class SmallAlphabet {
 public:
  static constexpr std::size_t longest = 7;
  using Language = std::unordered_set<std::string>;

  static Language all_of(std::string_view alphabet, std::size_t least, std::size_t most) {
    Language result;
    for_every_string(alphabet, most, [&](const std::string& s) {
      if (s.size() >= least) result.insert(s);
    });
    return result;
  }
  static Language concat(const Language& left, const Language& right) {
    Language result;
    for (const std::string& l : left) {
      for (const std::string& r : right) {
        if (l.size() + r.size() <= longest) result.insert(l + r);
      }
    }
    return result;
  }
  static Language either(Language left, const Language& right) {
    left.insert(right.begin(), right.end());
    return left;
  }
  static Language repeat(const Language& one) {
    Language result{""};
    for (Language more = one; !more.empty();) {
      const std::size_t before = result.size();
      result.insert(more.begin(), more.end());
      if (result.size() == before) break;
      more = concat(more, one);
    }
    return result;
  }

  SmallAlphabet() {
    Language pair;
    for (const char c : "a.@<>\"\\ "sv) pair.insert("\\"s + c);
    const Language content = either(all_of("a.@<> ", 1, 1), pair);
    const Language quoted_string = concat(concat({"\""}, repeat(content)), {"\""});
    const Language local_part = either(all_of("a.", 1, longest), quoted_string);
    Language domain;  // labels of "a", dots between them, one may stand at the end
    for (const std::string& s : all_of("a.", 1, longest)) {
      if (!s.starts_with('.') && s.find("..") == s.npos) domain.insert(s);
    }
    const Language full = concat(concat(local_part, {"@"}), domain);
    const Language spaces = all_of(" ", 0, longest);
    const auto surround = [&](const Language& path) { return concat(concat(spaces, path), spaces); };
    const auto bracket = [](const Language& path) { return concat(concat({"<"}, path), {">"}); };
    recipients = surround(either(bracket(full), full));
    senders = either(recipients, surround(either(bracket(local_part), {"<>"})));
  }

  Language senders;
  Language recipients;
};

TEST(ParsePath, EveryShortStringAgainstTheGrammar) {
  const SmallAlphabet oracle;
  std::size_t senders = 0;
  std::size_t recipients = 0;
  std::string from = "FROM:";
  std::string to = "TO:";
  for_every_string("<>@.a\"\\ \0"sv, SmallAlphabet::longest, [&](const std::string& s) {
    from.replace(5, from.npos, s);
    to.replace(3, to.npos, s);
    MailCommand mail;
    RcptCommand rcpt;
    const bool sender = parse_mail(from, {}, mail) == F::none;
    const bool recipient = parse_rcpt(to, {}, false, rcpt) == F::none;
    if (sender) {
      ++senders;
      ASSERT_TRUE(oracle.senders.contains(s)) << s;
      ASSERT_EQ(wrong_with(mail.reverse_path, true), "") << s;
    }
    if (recipient) {
      ++recipients;
      ASSERT_TRUE(oracle.recipients.contains(s)) << s;
      ASSERT_EQ(wrong_with(rcpt.forward_path, false), "") << s;
    }
  });
  EXPECT_EQ(senders, oracle.senders.size());
  EXPECT_EQ(recipients, oracle.recipients.size());
  EXPECT_GT(recipients, 500U);
}

TEST(ParsePath, WhatMayBeReadAsAnotherDomains) {
  const std::pair<std::string_view, bool> rows[] = {
      {"<a@b>", false},
      {"a@b", false},
      {"<a+b=c_d@b.example.>", false},
      {"<a@[127.0.0.1]>", false},
      {"<a@[x-tag:b!c%d@e]>", false},
      {"<\"a b\"@b>", false},
      {"<\"a\\\"b\"@b>", false},
      {"<@c,@d:a@b>", false},
      {"<a%c@b>", true},
      {"a%c@b", true},
      {"<c!a@b>", true},
      {"<!@b>", true},
      {"<a!b%c@d>", true},
      {"<\"a@c\"@b>", true},
      {"<\"a\\@c\"@b>", true},
      {"<\"a%c\"@b>", true},
      {"<\"\"@b>", true},
      {"<@c:a%d@b>", true},
      // Letters that are not ASCII.
      {"<m\xc3\xbcnchen@b>", false},
      {"<a@m\xc3\xbcnchen.example>", false},
      {"<a@\xd0\xbf\xd1\x80\xd0\xb8\xd0\xbc\xd0\xb5\xd1\x80>", false},
      {"<a@\xe4\xbe\x8b\xe5\xad\x90.example>", false},
      {"<de\xc5\xbfk@b>", false},
      {"<@de\xc5\xbfk:a@b>", false},
      {"<a@de\xc5\xbfk.example>", true},      // long s
      {"<a@des\xe2\x84\xaa.example>", true},  // Kelvin sign
      {"<a@\xef\xbd\x84"
       "esk.example>",
       true},  // full-width d
      {"<a@desk\xe3\x80\x82"
       "example>",
       true},                              // ideographic full stop
      {"<a@de\xc2\xadsk.example>", true},  // soft hyphen
      {"<a@\xf0\x9d\x90\x9d"
       "esk.example>",
       true},  // mathematical d
      {"<a@m\xc3\xbcnchen.\xe2\x84\xaa>", true},
      {"<a@stra\xc3\x9f"
       "e.example>",
       true},
  };
  for (const auto& [path, ambiguous] : rows) {
    MailCommand mail;
    RcptCommand rcpt;
    static_cast<void>(parse_mail("FROM:" + std::string(path) + " SMTPUTF8", ExtensionSet::all(), mail));
    static_cast<void>(parse_rcpt("TO:" + std::string(path), ExtensionSet::all(), true, rcpt));
    EXPECT_EQ(mail.reverse_path.ambiguous, ambiguous) << path;
    EXPECT_EQ(rcpt.forward_path.ambiguous, ambiguous) << path;
  }
  for (const std::string_view sender :
       {"<a>", "<a%b>", "<b!a>", "<\"\">", "<\"a b\">", "<Postmaster>", "<>"}) {
    MailCommand mail;
    EXPECT_EQ(parse_mail("FROM:" + std::string(sender), {}, mail), F::none);
    EXPECT_EQ(mail.reverse_path.ambiguous, sender != "<>") << sender;
  }
  RcptCommand rcpt;
  EXPECT_EQ(parse_rcpt("TO:<Postmaster>", {}, false, rcpt), F::none);
  EXPECT_FALSE(rcpt.forward_path.ambiguous);
}

TEST(ParseBdat, SizeAndLast) {
  struct Row {
    std::string_view argument;
    F fault;
    std::uint64_t size = 0;
    bool last = false;
  };
  const Row rows[] = {
      {"0", F::none, 0},
      {"5", F::none, 5},
      {"5 LAST", F::none, 5, true},
      {"5   last", F::none, 5, true},
      {"00000000000000000005", F::none, 5},
      {"9223372036854775807", F::none, 9223372036854775807U},
      {"9223372036854775808", F::syntax},
      {"99999999999999999999", F::syntax},
      {"000000000000000000005", F::syntax},
      {"", F::syntax},
      {"-1", F::syntax},
      {"+1", F::syntax},
      {"0x5", F::syntax},
      {"5LAST", F::syntax},
      {"LAST", F::syntax},
      {"5\0"sv, F::syntax},
      {"3 LAST x", F::bad_parameter, 3},
      {"3 4", F::bad_parameter, 3},
      {"3 LASTING", F::bad_parameter, 3},
      {"3\tLAST", F::bad_parameter, 3},
  };
  for (const Row& row : rows) {
    BdatCommand bdat;
    EXPECT_EQ(parse_bdat(row.argument, bdat), row.fault) << row.argument;
    EXPECT_EQ(bdat.size, row.size) << row.argument;
    EXPECT_EQ(bdat.last, row.last) << row.argument;
  }
}

TEST(HeloArgument, PrintableWithoutSpaces) {
  for (const std::string_view s :
       {"mx.example"sv, "[127.0.0.1]"sv, "[IPv6:::1]"sv, "under_score"sv, "x"sv, "!"sv}) {
    EXPECT_TRUE(valid_helo_argument(s)) << s;
  }
  for (const std::string_view s : {""sv, "a b"sv, "a\tb"sv, "a\0"sv, "\x7f"sv, "m\xc3\xa9.example"sv}) {
    EXPECT_FALSE(valid_helo_argument(s)) << s;
  }
}

}  // namespace
}  // namespace ringmx::smtp
