// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

namespace ringmx::load {
namespace {

using smtp::Stage;
using testing::HasSubstr;
using testing::Not;

Results results(const Statistics& statistics) {
  Results r;
  r.add(statistics);
  return r;
}

std::unique_ptr<Statistics> ten_accepted() {
  auto s = std::make_unique<Statistics>();
  s->accepted.add(10);
  s->octets.add(40960);
  s->recipients_accepted.add(10);
  s->sessions_opened.add(10);
  s->sessions_closed.add(10);
  s->reply(Stage::mail, 250).add(10);
  s->last_end.add(2 * second);
  for (int i = 1; i <= 10; ++i) s->span(Span::mail).record(i * 1'000'000);
  return s;
}

TEST(Report, SatisfiedByAcceptedMessagesAlone) {
  Options options;
  options.count = 10;
  auto s = ten_accepted();
  EXPECT_TRUE(satisfied(options, results(*s)));
  options.count = 11;  // interrupted
  EXPECT_FALSE(satisfied(options, results(*s)));
  options.duration = 10 * second;  // whichever is first
  EXPECT_TRUE(satisfied(options, results(*s)));
  for (ring::Counter Statistics::*bad :
       {&Statistics::refused, &Statistics::failed, &Statistics::unfinished, &Statistics::missed}) {
    auto one = ten_accepted();
    ((*one).*bad).add();
    EXPECT_FALSE(satisfied(options, results(*one)));
    options.tolerate = 9;
    EXPECT_FALSE(satisfied(options, results(*one)));
    options.tolerate = 10;  // 1 of 11
    EXPECT_TRUE(satisfied(options, results(*one)));
    options.tolerate = 0;
  }
  s->recipients_refused.add();
  EXPECT_FALSE(satisfied(options, results(*s)));
  EXPECT_FALSE(satisfied(options, Results()));  // nothing was sent
}

TEST(Report, SatisfiedBySessionsThatStand) {
  Options options;
  options.idle = true;
  Statistics s;
  EXPECT_FALSE(satisfied(options, results(s)));
  s.sessions_opened.add(5);
  s.sessions_closed.add(5);
  EXPECT_TRUE(satisfied(options, results(s)));
  s.sessions_failed.add();
  EXPECT_FALSE(satisfied(options, results(s)));
}

TEST(Report, Text) {
  auto s = ten_accepted();
  s->failed.add(2);
  s->sessions_failed.add(2);
  s->failure(Failure::timeout, static_cast<std::size_t>(Stage::rcpt)).add(2);
  Results r = results(*s);
  r.samples.push_back({.kind = "rcpt timeout", .text = "no reply in 60s"});
  Options options;
  const std::string text = text_report(options, "127.0.0.1:25", r);
  EXPECT_THAT(text, HasSubstr("10 accepted         5.0 /s      0.02 MB/s in 2.00 s\n"));
  EXPECT_THAT(text, HasSubstr("2 failed with their session\n"));
  EXPECT_THAT(text, HasSubstr("  mail          250: 10\n"));
  EXPECT_THAT(text, HasSubstr("2  rcpt timeout\n"));
  EXPECT_THAT(text, HasSubstr("rcpt timeout: no reply in 60s\n"));
  EXPECT_THAT(text, HasSubstr("10.00         10\n"));  // max and count of MAIL
  EXPECT_THAT(text, Not(HasSubstr("greeting")));
  EXPECT_THAT(text, Not(HasSubstr("never begun")));
}

TEST(Report, Json) {
  auto s = ten_accepted();
  s->failure(Failure::refused, connecting).add();
  Results r = results(*s);
  r.samples.push_back({.kind = "a \"kind\"", .text = "back\\slash \x01 \xff"});
  const std::string json = json_report(Options(), "unix:/run/\"mta\"", r);
  EXPECT_THAT(json, HasSubstr("{\n \"target\": \"unix:/run/\\\"mta\\\"\",\n \"satisfied\": true,\n"));
  EXPECT_THAT(json, HasSubstr("\"mail\": {\"250\": 10}"));
  EXPECT_THAT(json, HasSubstr("{\"failure\": \"refused\", \"at\": \"connect\", \"sessions\": 1}"));
  EXPECT_THAT(json, HasSubstr("\"text\": \"back\\\\slash \\u0001 \\u00ff\""));
  EXPECT_THAT(json, HasSubstr("\"max\": 10}"));
  EXPECT_THAT(json_report(Options(), "x", Results()), HasSubstr("\"replies\": {},"));
}

TEST(Report, WhatHandshakesCameTo) {
  auto s = ten_accepted();
  const TlsKind full{
      .version = "TLSv1.3", .suite = "TLS_AES_128_GCM_SHA256", .group = "X25519", .resumed = false};
  TlsKind again = full;
  again.resumed = true;
  s->tls = {{full, 1}, {again, 9}};
  s->span(Span::handshake).record(2'000'000);
  Results r = results(*s);
  r.add(*s);  // of two threads
  const std::string text = text_report(Options(), "x", r);
  EXPECT_THAT(text, HasSubstr("TLS                    2 full: TLSv1.3 TLS_AES_128_GCM_SHA256 X25519\n"));
  EXPECT_THAT(text, HasSubstr("                      18 resumed: TLSv1.3 TLS_AES_128_GCM_SHA256 X25519\n"));
  EXPECT_THAT(text, HasSubstr("\n  handshake  "));
  const std::string json = json_report(Options(), "x", r);
  EXPECT_THAT(json, HasSubstr("{\"version\": \"TLSv1.3\", \"suite\": \"TLS_AES_128_GCM_SHA256\", "
                              "\"group\": \"X25519\", \"resumed\": true, \"sessions\": 18}"));
  EXPECT_THAT(json, HasSubstr("\"handshake\": {\"count\": 2, "));
}

TEST(Report, ProgressShowsTheLastInterval) {
  Statistics s;
  Progress progress;
  const auto line = [&](Nanoseconds time) {
    Totals totals;
    s.add_to(totals);
    Distribution messages;
    messages.add(s.span(Span::message));
    return progress.line(time, totals, messages);
  };
  s.accepted.add(100);
  s.octets.add(2'000'000);
  s.sessions_opened.add(5);
  s.span(Span::message).record(8'000'000);
  EXPECT_EQ(line(second), "     1s         100      2.0         5         0         0    8.028    8.028\n");
  s.accepted.add(50);
  s.refused.add(3);
  s.sessions_closed.add(2);
  s.span(Span::message).record(1000);
  EXPECT_EQ(line(3 * second),
            "     3s          25      0.0         3         3         0    0.001    0.001\n");
  EXPECT_EQ(line(4 * second),
            "     4s           0      0.0         3         0         0        -        -\n");
  EXPECT_EQ(Progress::head().size(), line(5 * second).size());
}

TEST(Report, OneLineWhateverItHolds) {
  EXPECT_EQ(on_one_line("550-no\r\n550 \x1b[31mway\r\n"), "550-no / 550 ?[31mway");
  EXPECT_EQ(on_one_line(std::string(500, 'x')).size(), 203u);
  EXPECT_EQ(milliseconds(1'234), "0.001");
  EXPECT_EQ(milliseconds(12'345'678), "12.35");
  EXPECT_EQ(milliseconds(60'000'000'000), "60000");
}

}  // namespace
}  // namespace ringmx::load
