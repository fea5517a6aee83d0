// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cctype>
#include <sstream>

namespace ringmx::load {
namespace {

using Wish = CommandLine::Wish;
using testing::HasSubstr;

std::vector<std::string> words(const std::string& text) {
  std::istringstream stream(text);
  std::vector<std::string> out;
  for (std::string word; stream >> word;) out.push_back(word);
  return out;
}

CommandLine parse(const std::string& text) {
  const auto owned = words(text);
  return parse_command_line({owned.begin(), owned.end()});
}

Options good(const std::string& text) {
  const CommandLine line = parse(text);
  EXPECT_EQ(line.wish, Wish::run) << text << ": " << line.problem;
  return line.options;
}

std::string bad(const std::string& text) {
  const CommandLine line = parse(text);
  EXPECT_EQ(line.wish, Wish::complain) << text;
  EXPECT_EQ(line.problem.find('\n'), std::string::npos);
  return line.problem;
}

TEST(Options, Targets) {
  EXPECT_EQ(good("127.0.0.1:2525").target.port, 2525);
  EXPECT_EQ(good("127.0.0.1").target.port, 25);
  EXPECT_EQ(good("mx.example.test:26").target.host, "mx.example.test");
  EXPECT_EQ(good("[::1]:27").target.host, "::1");
  EXPECT_EQ(good("[::1]:27").target.port, 27);
  EXPECT_EQ(good("[::1]").target.port, 25);
  EXPECT_EQ(good("unix:/run/mta.sock").target.path, "/run/mta.sock");
  for (const char* text : {"::1", ":25", "host:", "host:0", "host:65536", "host:x", "[::1", "[::1]25",
                           "unix:", "a@b", "smtp://host"}) {
    EXPECT_THAT(bad(text), HasSubstr("is no target")) << text;
  }
  EXPECT_THAT(bad(""), HasSubstr("no target"));
  EXPECT_THAT(bad("a b"), HasSubstr("one target only"));
}

TEST(Options, Tls) {
  EXPECT_FALSE(good("h").uses_tls());
  EXPECT_TRUE(good("--starttls h").manners.starttls);
  EXPECT_EQ(good("--starttls h").target.port, 25);
  EXPECT_TRUE(good("--tls h").tls.implicit);
  EXPECT_EQ(good("--tls h").target.port, 465);
  EXPECT_EQ(good("--tls h:1465").target.port, 1465);
  EXPECT_EQ(good("--tls h").tls.client.verify, tls::ClientSettings::Verify::none);
  EXPECT_EQ(good("--tls --ca-file /ca h").tls.client.verify, tls::ClientSettings::Verify::ca_file);
  EXPECT_EQ(good("--tls --sni mx.example.test h").tls.client.name, "mx.example.test");
  const tls::ClientSettings one = good("--tls --tls-version 1.2 h").tls.client;
  EXPECT_EQ(one.minimum, tls::Version::tls12);
  EXPECT_EQ(one.maximum, tls::Version::tls12);
  const tls::ClientSettings some =
      good("--tls --ciphers chacha20-poly1305,aes-128-gcm --groups P-256,X25519MLKEM768 h").tls.client;
  EXPECT_EQ(some.ciphers, (std::vector{tls::Cipher::chacha20_poly1305, tls::Cipher::aes_128_gcm}));
  EXPECT_EQ(some.groups, (std::vector{tls::Group::p256, tls::Group::x25519_mlkem768}));
  EXPECT_THAT(bad("--tls --starttls h"), HasSubstr("one of them"));
  for (const char* text : {"--resume", "--tls-version 1.3", "--ciphers aes-128-gcm", "--groups P-256",
                           "--sni x", "--ca-file /ca"}) {
    EXPECT_THAT(bad(std::string(text) + " h"), HasSubstr("mean nothing without")) << text;
  }
  EXPECT_THAT(bad("--tls --tls-version 1.1 h"), HasSubstr("neither 1.2 nor 1.3"));
  EXPECT_THAT(bad("--tls --groups P-256,P-521 h"),
              HasSubstr("'P-521' is none of X25519MLKEM768, X25519, P-256"));
  EXPECT_THAT(bad("--tls --ciphers aes-128-gcm, h"), HasSubstr("'' is none of"));
}

TEST(Options, ARunAlwaysEnds) {
  EXPECT_EQ(good("h").duration, 10 * second);
  EXPECT_EQ(good("-n 5 h").duration, 0);
  EXPECT_EQ(good("-n 5 h").count, 5u);
  EXPECT_EQ(good("-d 5m h").duration, 300 * second);
  EXPECT_EQ(good("--idle h").duration, 10 * second);
  bad("-n 0 h");
  bad("-d 0 h");
}

TEST(Options, Spellings) {
  for (const char* text : {"--sessions 7 h", "--sessions=7 h", "-s 7 h", "-s7 h", "h -s 7"}) {
    EXPECT_EQ(good(text).sessions, 7u) << text;
  }
  EXPECT_EQ(good("-- h").target.host, "h");
  EXPECT_EQ(good("-k h").per_session, 0u);
  EXPECT_EQ(good("--messages 3 h").per_session, 3u);
  EXPECT_EQ(good("h").per_session, 1u);
  EXPECT_EQ(good("h").sessions, 10u);
  EXPECT_EQ(good("-r 5 h").sessions, 1000u);
  EXPECT_EQ(parse("--help").wish, Wish::help);
  EXPECT_EQ(parse("h -h --nonsense").wish, Wish::help);
  EXPECT_EQ(parse("--version").wish, Wish::version);
  EXPECT_THAT(bad("--nonsense h"), HasSubstr("--nonsense"));
  EXPECT_THAT(bad("h --sessions"), HasSubstr("wants a value"));
  EXPECT_THAT(bad("--keep=1 h"), HasSubstr("takes no value"));
  bad("-x h");
}

TEST(Options, Values) {
  EXPECT_EQ(good("-r 0.5 h").rate, 0.5);
  EXPECT_EQ(good("--ramp 2s h").ramp, 2 * second);
  EXPECT_EQ(good("-p never h").manners.pipelining, Manners::Pipelining::never);
  EXPECT_EQ(good("-p always h").manners.pipelining, Manners::Pipelining::always);
  EXPECT_TRUE(good("--bdat h").manners.bdat);
  EXPECT_EQ(good("--bdat h").manners.chunk_size, 0u);
  EXPECT_TRUE(good("--chunk 64KiB h").manners.bdat);
  EXPECT_EQ(good("--chunk 64KiB h").manners.chunk_size, 65536u);
  EXPECT_EQ(good("-t a@x -t b@y h").mail.to.size(), 2u);
  EXPECT_EQ(good("h").mail.to.size(), 1u);
  EXPECT_EQ(good("--source 127.1.0.0/16 h").source.host_bits, 16u);
  EXPECT_EQ(good("--source ::1 h").source.address, "::1");
  EXPECT_FALSE(good("h").allow_remote);
  EXPECT_EQ(good("--slow 100 --slow-share 5 h").slow_share, 5);
  EXPECT_EQ(good("--tolerate 0.1 h").tolerate, 0.1);
  EXPECT_EQ(good("--threads 0 h").threads, 0u);
  std::string from = "x";
  const CommandLine null_sender = parse_command_line({"-f", "", "h"});
  null_sender.options.mail.from.append(from, {});
  EXPECT_EQ(from, "x");
}

TEST(Options, WhatIsWrongIsNamed) {
  EXPECT_THAT(bad("-s 0 h"), HasSubstr("--sessions: '0'"));
  EXPECT_THAT(bad("-r 0 h"), HasSubstr("--rate"));
  EXPECT_THAT(bad("-r -1 h"), HasSubstr("--rate"));
  EXPECT_THAT(bad("-d 5parsecs h"), HasSubstr("'5parsecs' is no time"));
  EXPECT_THAT(bad("-p sometimes h"), HasSubstr("'sometimes'"));
  EXPECT_THAT(bad("-f %q h"), HasSubstr("--from: '%q'"));
  EXPECT_THAT(bad("--size x h"), HasSubstr("--size: 'x'"));
  EXPECT_THAT(bad("--source ::1/64 h"), HasSubstr("--source"));
  EXPECT_THAT(bad("--source 127.0.0.0/31 h"), HasSubstr("--source"));
  EXPECT_THAT(bad("--slow-share 5 h"), HasSubstr("without --slow"));
  EXPECT_THAT(bad("--idle -n 5 h"), HasSubstr("--idle"));
  EXPECT_THAT(bad("--idle -r 5 h"), HasSubstr("--idle"));
  EXPECT_THAT(bad("--tolerate 101 h"), HasSubstr("--tolerate"));
  EXPECT_THAT(bad("--body html h"), HasSubstr("--body"));
  EXPECT_THAT(bad("-q --progress h"), HasSubstr("--quiet"));
}

// Every option that the help names exists, with or without a value as it says; and the other way round.
TEST(Options, TheHelpIsTrue) {
  const std::string help(help_text());
  std::size_t options = 0;
  std::istringstream lines(help);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_LE(line.size(), 92u) << line;
    const std::size_t at = line.find("--");
    if (at == line.npos || at > 6 || line.find("ringmx-load") != line.npos) continue;
    const std::string name = line.substr(at, line.find_first_of(" ,", at) - at);
    if (name == "--help") continue;
    const std::size_t next = at + name.size() + 1;
    const bool value = next < line.size() && std::isupper(static_cast<unsigned char>(line[next])) != 0;
    ++options;
    EXPECT_EQ(parse("h " + name).problem == name + " wants a value", value) << line;
    EXPECT_EQ(parse(name + "=").problem == name + " takes no value", !value) << line;
    if (line[2] == '-') {
      EXPECT_EQ(parse("h " + line.substr(2, 2)).problem, parse("h " + name).problem) << line;
    }
  }
  EXPECT_EQ(options, 38u);
}

}  // namespace
}  // namespace ringmx::load
