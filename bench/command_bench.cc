// SPDX-License-Identifier: GPL-3.0-or-later
#include <benchmark/benchmark.h>

#include <string_view>

#include "ringmx/smtp/dialogue.h"
#include "ringmx/smtp/session.h"

namespace ringmx::smtp {
namespace {

// One message of a kept session: what parsing and deciding cost, beside microseconds for its sockets.
void transaction(benchmark::State& state) {
  const SessionRules rules{.message_size_limit = 1 << 20};
  const std::string_view lines[] = {"MAIL FROM:<sender+tag@mail.example.com> SIZE=4096 BODY=8BITMIME",
                                    "RCPT TO:<recipient@mx.example.org>", "DATA"};
  Session session(rules);
  session.apply(session.decide({"EHLO client.example.com"}, ExtensionSet::all()));
  for (auto _ : state) {
    for (const std::string_view line : lines) {
      Decision decision = session.decide({line}, ExtensionSet::all());
      benchmark::DoNotOptimize(decision);
      session.apply(decision);
      if (decision.action == Action::rcpt) session.recipient_replied(true);
    }
    session.transaction_ended();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(std::size(lines)));
}
BENCHMARK(transaction);

void decide(benchmark::State& state, std::string_view line) {
  const SessionRules rules;
  Session session(rules);
  session.apply(session.decide({"EHLO client.example.com"}, ExtensionSet::all()));
  if (line.starts_with("RCPT")) {
    session.apply(session.decide({"MAIL FROM:<a@b>"}, ExtensionSet::all()));
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(line);
    benchmark::DoNotOptimize(session.decide({line}, ExtensionSet::all()));
  }
}
BENCHMARK_CAPTURE(decide, noop, "NOOP");
BENCHMARK_CAPTURE(decide, mail, "MAIL FROM:<sender+tag@mail.example.com>");
BENCHMARK_CAPTURE(decide, mail_parameters,
                  "MAIL FROM:<sender+tag@mail.example.com> SIZE=4096 BODY=8BITMIME SMTPUTF8");
BENCHMARK_CAPTURE(decide, rcpt, "RCPT TO:<recipient@mx.example.org>");
BENCHMARK_CAPTURE(
    decide, rcpt_dsn,
    "RCPT TO:<recipient@mx.example.org> NOTIFY=FAILURE,DELAY ORCPT=rfc822;recipient@mx.example.org");

// The upstream's side of a message: replies to MAIL, RCPT and DATA in one segment.
void replies_of_one_message(benchmark::State& state) {
  const std::string_view wire =
      "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n"
      "250 2.0.0 Ok: queued as 4XyZ1q2w3e4r5t\r\n";
  Dialogue dialogue(16384);
  for (auto _ : state) {
    for (const Stage s : {Stage::mail, Stage::rcpt, Stage::data, Stage::message}) dialogue.expect(s);
    std::string_view input = wire;
    while (!input.empty()) {
      Stage stage{};
      Reply reply;
      std::size_t consumed = 0;
      benchmark::DoNotOptimize(dialogue.next(input, stage, reply, consumed));
      input.remove_prefix(consumed);
    }
  }
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(wire.size()));
}
BENCHMARK(replies_of_one_message);

}  // namespace
}  // namespace ringmx::smtp

BENCHMARK_MAIN();
