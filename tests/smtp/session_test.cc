// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/session.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <new>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "ringmx/smtp/base64.h"
#include "ringmx/smtp/dialogue.h"
#include "ringmx/smtp/sasl.h"

namespace {
std::size_t allocations = 0;
}

// ThreadSanitizer brings its own operators, and no second definition is allowed beside them.
#if defined(__SANITIZE_THREAD__)
#define RINGMX_COUNTS_ALLOCATIONS 0
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RINGMX_COUNTS_ALLOCATIONS 0
#endif
#endif
#ifndef RINGMX_COUNTS_ALLOCATIONS
#define RINGMX_COUNTS_ALLOCATIONS 1
#endif

#if RINGMX_COUNTS_ALLOCATIONS
// Counted, since the core promises to need none.
void* operator new(std::size_t size) {
  ++allocations;
  if (void* p = std::malloc(size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept {
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
  std::free(p);
}
#endif

namespace ringmx::smtp {
namespace {

using namespace std::literals;

static_assert(sizeof(Session) <= 40);

Line plain(std::string_view text) {
  return {text, LineFault::none};
}

std::string code(const Decision& d) {
  return d.reply.empty() ? "---" : std::string(d.reply.substr(0, 3));
}
std::string status(const Decision& d) {
  return std::string(d.reply.substr(0, d.reply.find(' ', 4)));
}

Decision say(Session& session, std::string_view line, ExtensionSet offered = ExtensionSet::all()) {
  const Decision decision = session.decide(plain(line), offered);
  session.apply(decision);
  return decision;
}

// The states of the walk below, as a client brings them about.
Session in_state(const SessionRules& rules, std::string_view state, bool secured = false) {
  Session session(rules);
  if (secured) session.tls_started();
  if (state == "connected") return session;
  say(session, "EHLO client.example");
  if (state == "ready") return session;
  say(session, "MAIL FROM:<a@b>");
  if (state == "envelope") return session;
  say(session, "RCPT TO:<c@d>");
  if (state == "pending") return session;
  session.recipient_replied(state != "refused");
  if (state == "accepted" || state == "refused") return session;
  say(session, "BDAT 5");
  if (state == "chunks") return session;
  session.chunk_failed();
  return session;
}

// The state as it shows from outside.
std::string state_of(const Session& session, const Decision& last) {
  const auto reply_to = [&](std::string_view line) {
    return std::string(session.decide(plain(line), ExtensionSet::all()).reply);
  };
  const bool message = last.action == Action::data || (last.action == Action::bdat && last.bdat.last);
  if (message) return session.in_transaction() ? "message" : "?";
  if (!session.greeted()) return "connected";
  if (!session.in_transaction()) {
    return reply_to("RCPT TO:<a@b>").find("chunk") == std::string::npos ? "ready" : "failed";
  }
  if (reply_to("RCPT TO:<a@b>").find("BDAT") != std::string::npos) return "chunks";
  if (session.recipients_pending() > 0) return "pending";
  if (session.recipients_accepted() > 0) return "accepted";
  return reply_to("DATA").starts_with("554") ? "refused" : "envelope";
}

// What a listener says of TLS, and what the client has.
struct Security {
  StartTls starttls;
  bool secured;  // with `off`: implicit TLS
};
const Security securities[] = {{StartTls::off, false},
                               {StartTls::off, true},
                               {StartTls::optional, false},
                               {StartTls::optional, true},
                               {StartTls::required, false},
                               {StartTls::required, true},
                               {StartTls::required_for_auth, false},
                               {StartTls::required_for_auth, true}};

// Every verb in every state, without TLS and with it. A cell: the reply code ("---" where others reply), and
// the next state where it is another, or "x" where the session ends. "refuse" lines: Action::bdat_refuse.
TEST(Session, EveryVerbInEveryState) {
  const std::vector<std::string> states = {"connected", "ready",   "envelope", "pending",
                                           "accepted",  "refused", "chunks",   "failed"};
  struct Row {
    std::string_view line;
    std::vector<std::string> cells;
  };
  const auto all = [](const std::string& cell) { return std::vector<std::string>(8, cell); };
  const std::vector<std::string> greet = {"--- ready", "---",       "--- ready", "--- ready",
                                          "--- ready", "--- ready", "--- ready", "--- ready"};
  const Row rows[] = {
      {"HELO client.example", greet},
      {"EHLO client.example", greet},
      {"HELO", all("501")},
      {"EHLO a b", all("501")},
      {"MAIL FROM:<a@b>", {"503", "250 envelope", "503", "503", "503", "503", "503", "250 envelope"}},
      {"MAIL FROM:<a@b> SIZE=1001", {"503", "552", "503", "503", "503", "503", "503", "552"}},
      {"MAIL FROM:<a b>", {"503", "501", "503", "503", "503", "503", "503", "501"}},
      {"RCPT TO:<a@b>", {"503", "503", "--- pending", "---", "--- pending", "--- pending", "503", "503"}},
      {"RCPT TO:<>", {"503", "503", "501 refused", "501", "501", "501", "503", "503"}},
      {"DATA", {"503", "503", "503", "--- message", "--- message", "554", "503", "503"}},
      {"DATA x", {"503", "503", "503", "501", "501", "554", "503", "503"}},
      {"BDAT 5", {"503", "503", "503 failed", "--- chunks", "--- chunks", "554 failed", "---", "503"}},
      {"BDAT 5 LAST",
       {"503", "503", "503 failed", "--- message", "--- message", "554 failed", "--- message", "503"}},
      {"BDAT 3 LAST x",
       {"503", "503", "503 failed", "501 failed", "501 failed", "554 failed", "501 failed", "503"}},
      {"BDAT -1", all("501 x")},
      {"RSET", {"250", "250", "250 ready", "250 ready", "250 ready", "250 ready", "250 ready", "250 ready"}},
      {"RSET x", all("501")},
      {"NOOP", all("250")},
      {"NOOP what ever", all("250")},
      {"NOOP \xc3\xa9", all("501")},
      {"QUIT", all("221 x")},
      {"QUIT x", all("501")},
      {"VRFY a@b", all("252")},
      {"VRFY", all("501")},
      {"VRFY a\tb", all("501")},
      {"HELP", all("214")},
      {"HELP MAIL", all("214")},
      {"STARTTLS", all("tls")},
      {"starttls ", all("tls")},
      {"STARTTLS now", all("tls x")},
      {"EXPN list", all("502")},
      {"AUTH PLAIN AGEAYg==", all("502")},
      {"ETRN x", all("502")},
      {"TURN", all("502")},
      {"XCLIENT ADDR=127.0.0.1", all("502")},
      {"XFORWARD ADDR=127.0.0.1", all("502")},
      {"FOO", all("500")},
      {"", all("500")},
      {" NOOP", all("500")},
      {"N\xc3\xa9OP", all("500")},
      {"GET / HTTP/1.1", all("421 x")},
      {"Host: mx.example", all("421 x")},
      {"\x16\x03\x01", all("421 x")},
  };
  // STARTTLS has nothing to do with the state; and what remains to be said where it is required.
  const auto expected = [](const Security& security, Verb verb, std::string cell) -> std::string {
    if (cell.starts_with("tls")) {
      if (security.secured) return "503";
      if (security.starttls == StartTls::off) return "502";
      return cell == "tls" ? "220" : "501";
    }
    const std::set<Verb> ever{Verb::helo, Verb::ehlo, Verb::noop,   Verb::rset,
                              Verb::help, Verb::quit, Verb::unknown};
    if (security.starttls == StartTls::required_for_auth && !security.secured && verb == Verb::auth)
      return "530";
    const bool required = security.starttls == StartTls::required && !security.secured;
    return required && !ever.contains(verb) && !cell.ends_with(" x") ? "530" : cell;
  };
  for (const Security& security : securities) {
    const SessionRules rules{.message_size_limit = 1000, .starttls = security.starttls};
    std::set<Verb> seen;
    for (const Row& row : rows) {
      for (std::size_t i = 0; i < states.size(); ++i) {
        // There is no transaction before TLS where that is required.
        if (security.starttls == StartTls::required && !security.secured && i > 1) break;
        SCOPED_TRACE(std::string(row.line) + " in " + states[i] + ", STARTTLS " +
                     std::to_string(static_cast<int>(security.starttls)) +
                     (security.secured ? ", secured" : ""));
        Session session = in_state(rules, states[i], security.secured);
        ASSERT_EQ(session.secured(), security.secured);
        ASSERT_EQ(state_of(session, {}), states[i]);
        const Decision decision = say(session, row.line);
        seen.insert(decision.verb);
        const bool ends = decision.action == Action::close || decision.action == Action::quit;
        std::string cell = code(decision);
        if (ends) {
          cell += " x";
        } else if (const std::string next = state_of(session, decision); next != states[i]) {
          cell += " " + next;
        }
        EXPECT_EQ(cell, expected(security, decision.verb, row.cells[i]));
        EXPECT_EQ(decision.action == Action::starttls, cell == "220");
        const bool refused_chunk = row.line.starts_with("BDAT") && !ends && !decision.reply.empty();
        EXPECT_EQ(decision.action == Action::bdat_refuse, refused_chunk);
        if (refused_chunk) {
          EXPECT_EQ(decision.bdat.size, row.line[5] == '5' ? 5U : 3U);
        }
      }
    }
    EXPECT_EQ(seen.size(), verb_count);
  }
}

// RFC 4954 section 4. As above; "auth": an exchange begins.
TEST(Session, AuthInEveryState) {
  const std::pair<std::string_view, std::string> cells[] = {
      {"connected", "503"}, {"ready", "auth"},  {"envelope", "503"}, {"pending", "503"},
      {"accepted", "503"},  {"refused", "503"}, {"chunks", "503"},   {"failed", "auth"}};
  for (const StartTls starttls :
       {StartTls::off, StartTls::optional, StartTls::required_for_auth, StartTls::required}) {
    for (const bool secured : {false, true}) {
      const SessionRules rules{.starttls = starttls, .auth = {Mechanism::plain, Mechanism::external}};
      for (const auto& state_and_cell : cells) {
        const std::string_view state = state_and_cell.first;
        const std::string& cell = state_and_cell.second;
        if (starttls == StartTls::required && !secured && state != "connected" && state != "ready") continue;
        SCOPED_TRACE(std::string(state) + std::to_string(static_cast<int>(starttls)) +
                     (secured ? " secured" : ""));
        Session session = in_state(rules, state, secured);
        const auto judge = [&](std::string_view line) {
          const Decision d = session.decide(plain(line), ExtensionSet::all());
          EXPECT_EQ(d.verb, Verb::auth);
          return d.action == Action::auth ? "auth" : code(d);
        };
        const bool barred =
            !secured && (starttls == StartTls::required || starttls == StartTls::required_for_auth);
        const auto expected = [&](const std::string& open) {
          return barred ? "530" : cell == "auth" ? open : cell;
        };
        EXPECT_EQ(judge("AUTH PLAIN"), expected("auth"));
        EXPECT_EQ(judge("auth plain AGEAYg=="), expected("auth"));
        EXPECT_EQ(judge("AUTH PLAIN *"), expected("auth"));  // the exchange says what is wrong with it
        EXPECT_EQ(judge("AUTH"), expected("501"));
        EXPECT_EQ(judge("AUTH PLAIN a b"), expected("501"));
        EXPECT_EQ(judge("AUTH LOGIN"), expected("504"));
        EXPECT_EQ(judge("AUTH PLAINS"), expected("504"));
        EXPECT_EQ(judge("AUTH EXTERNAL ="), expected("504"));
      }
    }
  }
  // HELO offers nothing.
  const SessionRules rules{.auth = {Mechanism::plain}};
  Session session(rules);
  say(session, "HELO x");
  EXPECT_EQ(status(say(session, "AUTH PLAIN")), "503 5.5.1");
}

TEST(Session, AuthExchange) {
  const SessionRules rules{.error_limit = 0, .auth = {Mechanism::login, Mechanism::plain}};
  Session session = in_state(rules, "ready");
  Decision d = say(session, "AUTH LOGIN");
  EXPECT_EQ(d.action, Action::auth);
  EXPECT_EQ(d.mechanism, Mechanism::login);
  EXPECT_FALSE(d.auth.initial_response);
  // Whatever looks like a command, or another protocol, is a response; word for word.
  for (const std::string_view line : {"QUIT", "STARTTLS", "GET / HTTP/1.1", "BDAT 5", "", " x ", "*"}) {
    d = say(session, line);
    EXPECT_EQ(d.action, Action::auth_response) << line;
    EXPECT_EQ(d.argument, line);
    EXPECT_EQ(d.verb, Verb::auth);
  }
  session.authenticated();
  EXPECT_EQ(status(say(session, "AUTH LOGIN")), "503 5.5.1");
  EXPECT_EQ(say(session, "EHLO y").action, Action::greet_esmtp);
  EXPECT_EQ(status(say(session, "AUTH LOGIN")), "503 5.5.1");  // that is not forgotten
  EXPECT_EQ(say(session, "MAIL FROM:<a@b>").action, Action::mail);

  session = in_state(rules, "ready");
  d = say(session, "AUTH PLAIN =");
  EXPECT_EQ(d.auth.initial_response, "=");
  session.apply(session.refuse(d, "535 5.7.8 No\r\n"));
  EXPECT_EQ(say(session, "NOOP").action, Action::reply);  // a command again
  d = say(session, "AUTH PLAIN   AGEAYg==  ");
  EXPECT_EQ(d.auth.initial_response, "AGEAYg==");
  session.apply(session.refuse(d, "451 4.3.0 Later\r\n"));
  EXPECT_EQ(say(session, "RSET").action, Action::rset);
}

TEST(Session, AuthRequired) {
  const SessionRules rules{
      .error_limit = 0, .starttls = StartTls::optional, .auth = {Mechanism::plain}, .auth_required = true};
  Session session(rules);
  EXPECT_EQ(status(say(session, "MAIL FROM:<a@b>")), "503 5.5.1");
  say(session, "EHLO x");
  for (const std::string_view line : {"MAIL FROM:<a@b>", "MAIL FROM:<>", "MAIL FROM:<a b>"}) {
    EXPECT_EQ(status(say(session, line)), "530 5.7.0") << line;
  }
  for (const std::string_view line : {"RCPT TO:<a@b>", "DATA", "BDAT 1 LAST"}) {
    EXPECT_EQ(status(say(session, line)), "503 5.5.1") << line;
  }
  for (const std::string_view line : {"NOOP", "RSET", "VRFY a", "HELP"}) {
    EXPECT_EQ(say(session, line).reply.front(), '2') << line;
  }
  ASSERT_EQ(say(session, "AUTH PLAIN AGEAYg==").action, Action::auth);
  session.authenticated();
  EXPECT_EQ(say(session, "MAIL FROM:<a@b>").action, Action::mail);
  say(session, "RSET");
  say(session, "EHLO x");
  EXPECT_EQ(say(session, "MAIL FROM:<a@b>").action, Action::mail);  // it still is
  say(session, "RSET");
  session.tls_started();
  say(session, "EHLO x");
  EXPECT_EQ(status(say(session, "MAIL FROM:<a@b>")), "530 5.7.0");  // forgotten
}

// A line that is none ends the exchange, and the session goes on.
TEST(Session, AuthLineFaults) {
  const SessionRules rules{.error_limit = 0, .auth = {Mechanism::plain}, .auth_failure_limit = 0};
  Session session = in_state(rules, "ready");
  const std::pair<LineFault, std::string_view> faults[] = {{LineFault::too_long, "500 5.5.6"},
                                                           {LineFault::bare_lf, "500 5.5.2"},
                                                           {LineFault::bare_cr, "500 5.5.2"},
                                                           {LineFault::nul, "500 5.5.2"}};
  for (const auto& [fault, expected] : faults) {
    ASSERT_EQ(say(session, "AUTH PLAIN").action, Action::auth);
    const Decision d = session.decide({fault == LineFault::too_long ? "" : "x", fault}, {});
    EXPECT_EQ(d.action, Action::reply);
    EXPECT_EQ(status(d), expected);
    session.apply(d);
    EXPECT_EQ(say(session, "NOOP").action, Action::reply);
  }
}

// SECURITY row 7.
TEST(Session, AuthLineLimit) {
  const SessionRules rules{.auth = {Mechanism::plain}};
  ASSERT_EQ(longest_line(rules, ExtensionSet::all()), 12288U);
  ASSERT_EQ(longest_line({.command_line_limit = 20000, .auth = {Mechanism::plain}}, {}), 20500U);
  for (const std::size_t size : {12287U, 12288U, 12289U, 100000U}) {
    for (const bool response : {false, true}) {
      LineReader lines(longest_line(rules, ExtensionSet::all()), false);
      Session session = in_state(rules, "ready");
      if (response) say(session, "AUTH PLAIN");
      std::string text = response ? "" : "AUTH PLAIN ";
      text.resize(size - 2, 'A');
      text += "\r\nNOOP\r\n";
      std::string_view input = text;
      Line line;
      std::size_t used = 0;
      ASSERT_TRUE(lines.peek(input, line, used));
      const Decision d = session.decide(line, ExtensionSet::all());
      session.apply(d);
      if (size <= 12288) {
        EXPECT_EQ(d.action, response ? Action::auth_response : Action::auth);
        continue;
      }
      EXPECT_EQ(d.action, Action::reply);
      EXPECT_EQ(status(d), response ? "500 5.5.6" : "500 5.5.2");
      lines.consume();
      input.remove_prefix(used);
      ASSERT_TRUE(lines.peek(input, line, used));
      EXPECT_EQ(session.decide(line, ExtensionSet::all()).reply, replies::ok);
    }
  }
  // A limit of other commands stays what it is.
  Session session = in_state(rules, "ready");
  EXPECT_EQ(say(session, "NOOP " + std::string(600, 'x')).reply, replies::line_too_long);
}

TEST(Session, AuthFailureLimit) {
  const SessionRules rules{.error_limit = 20, .auth = {Mechanism::plain}, .auth_failure_limit = 3};
  Session session = in_state(rules, "ready");
  for (int i = 0; i < 5; ++i) EXPECT_EQ(say(session, "AUTH FOO").action, Action::reply);  // no attempts
  for (int i = 0; i < 5; ++i) {  // nor are these: it was not the client
    session.apply(session.refuse(say(session, "AUTH PLAIN"), "451 4.3.0 Later\r\n"));
  }
  session.apply(session.refuse(say(session, "AUTH PLAIN"), "535 5.7.8 No\r\n"));
  say(session, "AUTH PLAIN");
  session.apply(session.decide({"", LineFault::too_long}, {}));
  say(session, "MAIL FROM:<a@b>");
  say(session, "RCPT TO:<c@d>");
  session.recipient_replied(true);
  say(session, "DATA");
  session.transaction_ended();  // a message makes up for errors, not for these
  const Decision last = session.refuse(say(session, "AUTH PLAIN"), "535 5.7.8 No\r\n");
  EXPECT_EQ(last.action, Action::close);
  EXPECT_EQ(last.reply, replies::too_many_errors);

  // They are errors, too.
  const SessionRules strict{.error_limit = 2, .auth = {Mechanism::plain}, .auth_failure_limit = 0};
  Session other = in_state(strict, "ready");
  say(other, "FOO");
  EXPECT_EQ(other.refuse(say(other, "AUTH PLAIN"), "535 5.7.8 No\r\n").action, Action::close);
}

// RFC 4954 section 4, RFC 3207 section 4.2: who the client is was learnt in clear text.
TEST(Session, TlsForgetsWhoTheClientIs) {
  const SessionRules rules{.starttls = StartTls::optional,
                           .auth = {Mechanism::plain, Mechanism::external},
                           .auth_failure_limit = 2};
  Session session = in_state(rules, "ready");
  session.apply(session.refuse(say(session, "AUTH PLAIN"), "535 5.7.8 No\r\n"));
  say(session, "AUTH PLAIN");
  session.authenticated();
  EXPECT_EQ(session.mechanisms(), MechanismSet{Mechanism::plain});
  say(session, "STARTTLS");
  session.tls_started(true);
  EXPECT_EQ(session.mechanisms(), rules.auth);
  EXPECT_EQ(status(say(session, "AUTH PLAIN")), "503 5.5.1");
  say(session, "EHLO x");
  const Decision d = say(session, "AUTH EXTERNAL =");
  EXPECT_EQ(d.action, Action::auth);
  EXPECT_EQ(d.mechanism, Mechanism::external);
  EXPECT_EQ(session.refuse(d, "535 5.7.8 No\r\n").action, Action::close);  // the failure stays counted
  // Without a verified certificate there is nothing that it could name.
  Session other = in_state(rules, "ready", true);
  EXPECT_EQ(status(say(other, "AUTH EXTERNAL =")), "504 5.5.4");
}

TEST(Session, MailMayNameASubmitter) {
  const SessionRules rules{.auth = {Mechanism::plain}};
  ExtensionSet offered = ExtensionSet::all();
  Session session = in_state(rules, "ready");
  const auto mail = [&](std::string_view value) {
    return status(session.decide(plain("MAIL FROM:<a@b> AUTH=" + std::string(value)), offered));
  };
  EXPECT_EQ(mail("<>"), "555 5.5.4");  // not offered
  offered.add(Extension::auth);
  EXPECT_EQ(mail("<>"), "250 2.0.0");
  EXPECT_EQ(mail("e+3Dmc2@example.com"), "250 2.0.0");
  EXPECT_EQ(mail(""), "501 5.5.4");
  EXPECT_EQ(mail("<> AUTH=<>"), "501 5.5.4");
  EXPECT_EQ(mail("a=b"), "501 5.5.4");
  EXPECT_EQ(mail("a+0Ab"), "501 5.5.4");
}

// An exchange of every kind, cut at every octet and octet by octet, comes to the same.
TEST(Session, AuthInPieces) {
  const auto encoded = [](std::string_view octets) {
    std::string out;
    append_base64(out, octets);
    return out;
  };
  const SessionRules rules{
      .error_limit = 0, .auth = {Mechanism::plain, Mechanism::login}, .auth_failure_limit = 0};
  const std::string text = "AUTH PLAIN " + encoded("\0u\0wrong"sv) + "\r\nAUTH PLAIN\r\n*\r\nAUTH LOGIN\r\n" +
                           encoded("user") + "\r\nnot base64\r\nAUTH LOGIN\r\n" + encoded("user") + "\r\n" +
                           encoded("secret") + "\r\nNOOP\r\n";
  const auto play = [&](std::size_t first, std::size_t step) {
    Session session = in_state(rules, "ready");
    LineReader lines(longest_line(rules, {}), false);
    std::optional<SaslExchange> exchange;
    std::string said;
    const auto act = [&](const Decision& d) {
      session.apply(d);
      if (d.action == Action::reply) said += d.reply;
      if (d.action != Action::auth && d.action != Action::auth_response) return;
      if (d.action == Action::auth) exchange.emplace(d.mechanism);
      const SaslExchange::State state =
          d.action == Action::auth ? exchange->begin(d.auth.initial_response) : exchange->respond(d.argument);
      if (state == SaslExchange::State::responding) {
        said += exchange->reply();
      } else if (state == SaslExchange::State::failed) {
        session.apply(session.refuse(d, exchange->reply()));
        said += exchange->reply();
      } else if (exchange->credentials().password == "secret") {
        session.authenticated();
        said += replies::authenticated;
      } else {
        session.apply(session.refuse(d, replies::bad_credentials));
        said += replies::bad_credentials;
      }
    };
    for (std::size_t at = 0, end = first; at < text.size();
         at = end, end = std::min(end + step, text.size())) {
      std::string_view input = std::string_view(text).substr(at, end - at);
      while (!input.empty()) {
        Line line;
        std::size_t used = 0;
        if (lines.peek(input, line, used)) {
          act(session.decide(line, ExtensionSet::all()));
          lines.consume();
        }
        input.remove_prefix(used);
      }
    }
    return said;
  };
  const std::string expected = std::string(replies::bad_credentials) +
                               "334 \r\n501 5.7.0 Authentication cancelled\r\n334 VXNlcm5hbWU6\r\n"
                               "334 UGFzc3dvcmQ6\r\n501 5.5.2 Not base64\r\n334 VXNlcm5hbWU6\r\n"
                               "334 UGFzc3dvcmQ6\r\n" +
                               std::string(replies::authenticated) + std::string(replies::ok);
  EXPECT_EQ(play(text.size(), text.size()), expected);
  EXPECT_EQ(play(1, 1), expected);
  for (std::size_t cut = 1; cut < text.size(); ++cut) ASSERT_EQ(play(cut, text.size()), expected) << cut;
}

// SECURITY row 3, from each state that can have no recipients pending: what was said in clear text may
// have been said by somebody else.
TEST(Session, TlsForgetsEverything) {
  const SessionRules rules{.starttls = StartTls::optional};
  for (const std::string_view state :
       {"connected", "ready", "envelope", "accepted", "refused", "chunks", "failed"}) {
    SCOPED_TRACE(state);
    Session session = in_state(rules, state);
    const Decision decision = say(session, "STARTTLS");
    ASSERT_EQ(decision.action, Action::starttls);
    EXPECT_EQ(decision.reply, "220 2.0.0 Ready to start TLS\r\n");
    EXPECT_FALSE(session.secured());
    session.tls_started();
    EXPECT_TRUE(session.secured());
    EXPECT_FALSE(session.greeted());
    EXPECT_FALSE(session.esmtp());
    EXPECT_FALSE(session.in_transaction());
    EXPECT_EQ(session.recipients_accepted(), 0U);
    EXPECT_EQ(status(say(session, "MAIL FROM:<a@b>")), "503 5.5.1");
    EXPECT_EQ(status(say(session, "RCPT TO:<a@b>")), "503 5.5.1");
    EXPECT_EQ(status(say(session, "DATA")), "503 5.5.1");
    EXPECT_EQ(status(say(session, "BDAT 5 LAST")), "503 5.5.1");
    EXPECT_EQ(status(say(session, "STARTTLS")), "503 5.5.1");
    EXPECT_EQ(say(session, "RSET").action, Action::rset);
    EXPECT_FALSE(session.greeted());
    EXPECT_EQ(say(session, "HELO x").action, Action::greet);
    EXPECT_FALSE(session.esmtp());
    EXPECT_EQ(say(session, "MAIL FROM:<a@b>").action, Action::mail);
    EXPECT_EQ(status(say(session, "DATA")), "503 5.5.1");  // no recipients, refused or not
    EXPECT_TRUE(session.secured());
    EXPECT_EQ(status(say(session, "RCPT TO:<\xc3\xa9@b>")), "553 5.6.7");
  }
}

TEST(Session, Smtputf8EndsWithStarttls) {
  const SessionRules rules{.starttls = StartTls::optional};
  Session session = in_state(rules, "ready");
  say(session, "MAIL FROM:<a@b> SMTPUTF8");
  say(session, "STARTTLS");
  session.tls_started();
  say(session, "EHLO x");
  say(session, "MAIL FROM:<a@b>");
  EXPECT_EQ(status(say(session, "RCPT TO:<\xc3\xa9@b>")), "553 5.6.7");
}

// What the owner refuses changes the session as a refusal of its own would, and is counted so.
TEST(Session, RefusesForItsOwner) {
  constexpr std::string_view no = "550 5.7.1 No\r\n";
  constexpr std::string_view later = "451 4.7.1 Later\r\n";
  const SessionRules rules{.error_limit = 3};
  const auto decide = [](const Session& session, std::string_view line) {
    return session.decide(plain(line), ExtensionSet::all());
  };
  constexpr std::string_view steps[][2] = {{"ready", "MAIL FROM:<a@b>"}, {"envelope", "RCPT TO:<a@b>"},
                                           {"pending", "RCPT TO:<a@b>"}, {"accepted", "DATA"},
                                           {"accepted", "BDAT 5"},       {"accepted", "BDAT 7 LAST"}};
  for (const auto& [state, line] : steps) {
    SCOPED_TRACE(line);
    const bool chunk = line.starts_with("BDAT");
    for (const std::string_view reply : {no, later}) {
      Session session = in_state(rules, state);
      const std::uint32_t pending = session.recipients_pending();
      const Decision decision = decide(session, line);
      const Decision refused = session.refuse(decision, reply);
      EXPECT_EQ(refused.verb, decision.verb);
      EXPECT_EQ(refused.argument, decision.argument);
      EXPECT_EQ(refused.reply, reply);
      EXPECT_EQ(refused.action, chunk ? Action::bdat_refuse : Action::reply);
      if (chunk) {
        EXPECT_EQ(refused.bdat.size, line[5] == '5' ? 5U : 7U);
      }
      session.apply(refused);
      EXPECT_EQ(session.recipients_pending(), pending);
      const bool only = state == "envelope";  // it was the only recipient
      EXPECT_EQ(state_of(session, refused), chunk ? "failed" : only ? "refused" : state);
    }
    // The third 5xx is the last word; a 4xx is no error.
    Session session = in_state(rules, state);
    say(session, "FOO");
    say(session, "FOO");
    EXPECT_EQ(session.refuse(decide(session, line), later).reply, later);
    const Decision last = session.refuse(decide(session, line), no);
    EXPECT_EQ(last.reply, replies::too_many_errors);
    EXPECT_EQ(last.action, Action::close);
  }
}

// A client can't make its limits anew by STARTTLS, and 530 is an error like any other.
TEST(Session, LimitsOutlastStarttls) {
  const SessionRules rules{.error_limit = 3, .junk_command_limit = 3, .starttls = StartTls::required};
  Session session = in_state(rules, "ready");
  EXPECT_EQ(say(session, "NOOP").action, Action::reply);
  EXPECT_EQ(say(session, "HELP").action, Action::reply);
  const Decision refused = say(session, "MAIL FROM:<a@b>");
  EXPECT_EQ(refused.reply, "530 5.7.0 Must issue a STARTTLS command first\r\n");
  EXPECT_EQ(say(session, "BDAT 5").action, Action::bdat_refuse);
  EXPECT_EQ(session.decide(plain("VRFY a"), ExtensionSet::all()).reply, replies::too_many_errors);
  say(session, "STARTTLS");
  session.tls_started();
  EXPECT_EQ(session.decide(plain("FOO"), ExtensionSet::all()).reply, replies::too_many_errors);
  EXPECT_EQ(session.decide(plain("NOOP"), ExtensionSet::all()).reply, replies::too_much_junk);
  EXPECT_EQ(say(session, "EHLO x").action, Action::greet_esmtp);  // not a repeated one: the first in TLS
  EXPECT_EQ(session.decide(plain("EHLO x"), ExtensionSet::all()).reply, replies::too_much_junk);
}

// 530 stands behind what is no line, no SMTP or no chunk that can be counted, and before all else.
TEST(Session, WhatComesBeforeStarttlsIsRequired) {
  const SessionRules rules{.starttls = StartTls::required};
  for (const std::string_view state : {"connected", "ready"}) {
    const Session session = in_state(rules, state);
    const auto decide = [&](std::string_view line, LineFault fault = LineFault::none,
                            ExtensionSet offered = {}) {
      return session.decide({line, fault}, offered);
    };
    EXPECT_EQ(code(decide("MAIL FROM:<a b>")), "530");
    EXPECT_EQ(code(decide("DATA x")), "530");
    EXPECT_EQ(decide("MAIL FROM:<a@b>", LineFault::bare_lf).reply.substr(0, 3), "500");
    EXPECT_EQ(decide("MAIL " + std::string(600, 'x')).reply, replies::line_too_long);
    EXPECT_EQ(decide("GET / HTTP/1.0").reply, replies::not_smtp);
    for (const ExtensionSet offered : {ExtensionSet(), ExtensionSet::all()}) {
      EXPECT_EQ(decide("BDAT x", LineFault::none, offered).action, Action::close);
      const Decision chunk = decide("BDAT 7 LAST y", LineFault::none, offered);
      EXPECT_EQ(chunk.action, Action::bdat_refuse);
      EXPECT_EQ(status(chunk), "530 5.7.0");
      EXPECT_EQ(chunk.bdat.size, 7U);
    }
  }
}

TEST(Session, ActionsOfTheOrdinaryTransaction) {
  const SessionRules rules;
  Session session(rules);
  EXPECT_EQ(say(session, "EHLO x").action, Action::greet_esmtp);
  EXPECT_TRUE(session.esmtp());
  EXPECT_EQ(say(session, "HELO x").action, Action::greet);
  EXPECT_FALSE(session.esmtp());
  const Decision mail = say(session, "MAIL FROM:<a@b> SIZE=5 BODY=8BITMIME");
  EXPECT_EQ(mail.action, Action::mail);
  EXPECT_EQ(mail.reply, replies::ok);
  EXPECT_EQ(mail.mail.reverse_path.mailbox, "a@b");
  EXPECT_EQ(mail.mail.parameters, "SIZE=5 BODY=8BITMIME");
  const Decision rcpt = say(session, "RCPT TO:<c@d> NOTIFY=NEVER");
  EXPECT_EQ(rcpt.action, Action::rcpt);
  EXPECT_EQ(rcpt.rcpt.forward_path.mailbox, "c@d");
  EXPECT_EQ(rcpt.rcpt.parameters, "NOTIFY=NEVER");
  EXPECT_EQ(say(session, "RCPT TO:<e@f>").action, Action::rcpt);
  EXPECT_EQ(session.recipients_pending(), 2U);
  session.recipient_replied(true);
  session.recipient_replied(false);
  EXPECT_EQ(session.recipients_pending(), 0U);
  EXPECT_EQ(session.recipients_accepted(), 1U);
  EXPECT_EQ(say(session, "DATA").action, Action::data);
  EXPECT_TRUE(session.in_transaction());
  session.transaction_ended();
  EXPECT_FALSE(session.in_transaction());
  EXPECT_EQ(session.recipients_accepted(), 0U);
  EXPECT_EQ(say(session, "QUIT").action, Action::quit);
}

TEST(Session, EnhancedStatusCodes) {
  const SessionRules rules{.message_size_limit = 1000, .recipient_limit = 1};
  const auto in = [&](std::string_view state, std::string_view line) {
    Session session = in_state(rules, state);
    return status(session.decide(plain(line), ExtensionSet::all()));
  };
  EXPECT_EQ(in("connected", "EHLO"), "501 5.5.4");
  EXPECT_EQ(in("connected", "MAIL FROM:<a@b>"), "503 5.5.1");
  EXPECT_EQ(in("ready", "MAIL FROM:<a@b> SIZE=1000"), "250 2.0.0");
  EXPECT_EQ(in("ready", "MAIL FROM:<a@b> SIZE=1001"), "552 5.3.4");
  EXPECT_EQ(in("ready", "MAIL FROM:<a@b> SIZE=99999999999999999999"), "552 5.3.4");
  EXPECT_EQ(in("ready", "MAIL FROM:a b@c"), "501 5.1.7");
  EXPECT_EQ(in("ready", "MAIL FROM:"), "501 5.5.4");
  EXPECT_EQ(in("ready", "MAIL FROM:<a\x01@b>"), "501 5.5.4");
  EXPECT_EQ(in("ready", "MAIL FROM:<a@b> FOO"), "555 5.5.4");
  EXPECT_EQ(in("ready", "MAIL FROM:<a@b> SIZE=x"), "501 5.5.4");
  EXPECT_EQ(in("ready", "MAIL FROM:<\xc3\xa9@b>"), "553 5.6.7");
  EXPECT_EQ(in("ready", "MAIL FROM:<\xc3\xa9@b> SMTPUTF8"), "250 2.0.0");
  EXPECT_EQ(in("ready", "MAIL FROM:<\xc0\x80@b> SMTPUTF8"), "553 5.6.7");
  EXPECT_EQ(in("ready", "MAIL FROM:<\xed\xa0\x80@b> SMTPUTF8"), "553 5.6.7");
  EXPECT_EQ(in("ready", "MAIL FROM:<\xf4\x90\x80\x80@b> SMTPUTF8"), "553 5.6.7");
  EXPECT_EQ(in("envelope", "RCPT TO:<a..b>"), "501 5.1.3");
  EXPECT_EQ(in("envelope", "RCPT TO:<\xc3\xa9@b>"), "553 5.6.7");
  EXPECT_EQ(in("accepted", "RCPT TO:<a@b>"), "452 4.5.3");
  EXPECT_EQ(in("refused", "RCPT TO:<a@b>"), "");
  EXPECT_EQ(in("refused", "DATA"), "554 5.5.1");
  EXPECT_EQ(in("ready", "XYZZY"), "500 5.5.2");
  EXPECT_EQ(in("ready", "AUTH LOGIN"), "502 5.5.1");
  EXPECT_EQ(in("ready", "VRFY a"), "252 2.0.0");
  EXPECT_EQ(in("ready", "HELP"), "214 2.0.0");
}

TEST(Session, Smtputf8LastsForItsTransaction) {
  const SessionRules rules;
  Session session(rules);
  const std::string_view rcpt = "RCPT TO:<\xc3\xa9@b>";
  say(session, "EHLO x");
  say(session, "MAIL FROM:<a@b> SMTPUTF8");
  EXPECT_EQ(say(session, rcpt).action, Action::rcpt);
  EXPECT_EQ(status(say(session, "RCPT TO:<\xff@b>")), "553 5.6.7");
  for (const std::string_view end : {"RSET", "EHLO x"}) {
    say(session, end);
    say(session, "MAIL FROM:<a@b>");
    EXPECT_EQ(status(say(session, rcpt)), "553 5.6.7") << end;
    say(session, "RSET");
    say(session, "MAIL FROM:<a@b> SMTPUTF8");
  }
}

// SECURITY rows 5 to 7, and the order: foreign, line, verb, state, syntax.
TEST(Session, LineFaults) {
  const SessionRules rules;
  const std::pair<LineFault, std::string_view> faults[] = {
      {LineFault::too_long, ""},
      {LineFault::bare_lf, "NOOP\nNOOP"},
      {LineFault::bare_cr, "MAIL FROM:<a@b>\rRCPT TO:<c@d>"},
      {LineFault::nul, "MAIL FROM:<a\0@b>"sv}};
  for (const auto& [fault, text] : faults) {
    for (const std::string_view state : {"connected", "ready", "envelope", "pending", "chunks", "failed"}) {
      Session session = in_state(rules, state);
      const Decision decision = session.decide({text, fault}, ExtensionSet::all());
      session.apply(decision);
      EXPECT_EQ(decision.action, Action::reply);
      EXPECT_EQ(status(decision), "500 5.5.2");
      EXPECT_EQ(state_of(session, {}), state);
    }
  }
  Session session = in_state(rules, "ready");
  // Octets may follow a broken BDAT, and nobody knows how many.
  EXPECT_EQ(session.decide({"BDAT 5\0"sv, LineFault::nul}, ExtensionSet::all()).action, Action::close);
  EXPECT_EQ(session.decide({"BDAT 5\nx", LineFault::bare_lf}, ExtensionSet::all()).action, Action::close);
  EXPECT_EQ(session.decide({"\x16\x03\x01\0\0"sv, LineFault::nul}, ExtensionSet::all()).reply,
            replies::not_smtp);
  EXPECT_EQ(session.decide({"GET / HTTP/1.0\nHost: x", LineFault::bare_lf}, ExtensionSet::all()).reply,
            replies::not_smtp);
}

TEST(Session, LineLimits) {
  const SessionRules rules;
  const auto set = [](std::initializer_list<Extension> list) {
    ExtensionSet s;
    for (const Extension e : list) s.add(e);
    return s;
  };
  struct Row {
    std::string_view verb;
    ExtensionSet offered;
    std::size_t limit;
  };
  const Row rows[] = {
      {"NOOP ", ExtensionSet::all(), 512},
      {"EHLO ", ExtensionSet::all(), 512},
      {"AUTH ", ExtensionSet::all(), 512},
      {"XYZZY", ExtensionSet::all(), 512},
      {"BDAT 1", ExtensionSet::all(), 512},
      {"MAIL ", {}, 512},
      {"RCPT ", {}, 512},
      {"MAIL ", set({Extension::pipelining, Extension::chunking, Extension::enhanced_status_codes}), 512},
      {"MAIL ", set({Extension::size}), 538},
      {"MAIL ", set({Extension::eight_bit_mime}), 529},
      {"MAIL ", set({Extension::smtputf8}), 522},
      {"MAIL ", set({Extension::dsn}), 622},
      {"MAIL ", set({Extension::requiretls}), 523},
      {"MAIL ", ExtensionSet::all(), 686},
      {"RCPT ", set({Extension::size, Extension::eight_bit_mime, Extension::smtputf8}), 512},
      {"RCPT ", ExtensionSet::all(), 1042},
  };
  for (const Row& row : rows) {
    const Session session = in_state(rules, "ready");
    std::string line(row.verb);
    line.resize(row.limit - 2, 'x');
    EXPECT_NE(session.decide(plain(line), row.offered).reply, replies::line_too_long)
        << row.verb << row.limit;
    line += 'x';
    const Decision decision = session.decide(plain(line), row.offered);
    EXPECT_EQ(decision.reply, replies::line_too_long) << row.verb << row.limit;
    EXPECT_EQ(decision.action, decision.verb == Verb::bdat ? Action::close : Action::reply);
    EXPECT_GE(longest_line(rules, row.offered), row.limit);
  }
  EXPECT_EQ(longest_line(rules, {}), 512U);
  EXPECT_EQ(longest_line(rules, ExtensionSet::all()), 1042U);
  EXPECT_EQ(longest_line({.command_line_limit = 1000}, set({Extension::size})), 1026U);
}

// Everything that a conforming client may say fits.
TEST(Session, TheLongestConformingCommandsFit) {
  const SessionRules rules;
  Session session = in_state(rules, "ready");
  const std::string mailbox = std::string(64, 'l') + "@" + std::string(189, 'd');
  const std::string mail =
      "MAIL FROM:<" + mailbox +
      "> SIZE=12345678901234567890 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=" + std::string(94, 'e');
  EXPECT_EQ(say(session, mail).action, Action::mail);
  const std::string rcpt =
      "RCPT TO:<" + mailbox + "> NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;" + std::string(487, 'o');
  EXPECT_EQ(say(session, rcpt).action, Action::rcpt);
}

// SECURITY row 11: exactly as many octets follow as were announced, or the session ends.
TEST(Session, ChunksAreAlwaysCounted) {
  const SessionRules rules;
  ExtensionSet none = ExtensionSet::all();
  none.remove(Extension::chunking);
  for (const std::string_view state :
       {"connected", "ready", "envelope", "pending", "accepted", "refused", "chunks", "failed"}) {
    for (const ExtensionSet offered : {none, ExtensionSet::all()}) {
      for (const std::string_view good :
           {"BDAT 7", "BDAT 7 LAST", "bdat 7 last", "BDAT 7 LAST x", "BDAT 7 x"}) {
        const Decision decision = in_state(rules, state).decide(plain(good), offered);
        EXPECT_TRUE(decision.action == Action::bdat || decision.action == Action::bdat_refuse) << good;
        EXPECT_EQ(decision.bdat.size, 7U) << good;
        if (offered == none) {
          EXPECT_EQ(status(decision), "502 5.5.1");
          EXPECT_EQ(decision.action, Action::bdat_refuse);
        }
      }
      for (const std::string_view bad : {"BDAT", "BDAT -1", "BDAT x", "BDAT LAST", "BDAT 9223372036854775808",
                                         "BDAT 99999999999999999999999", "BDAT 5LAST"}) {
        const Decision decision = in_state(rules, state).decide(plain(bad), offered);
        EXPECT_EQ(decision.action, Action::close) << bad;
        EXPECT_EQ(status(decision), "501 5.5.4") << bad;
      }
    }
  }
}

// Whoever it was that refused each: the syntax, a limit, a rule or a service, the upstream.
TEST(Session, NoRecipientIsLeft) {
  const SessionRules rules;
  for (const std::string_view refused : {"RCPT TO:<a", "RCPT TO:<a@b> FOO=1"}) {
    Session session = in_state(rules, "envelope");
    EXPECT_EQ(status(say(session, "DATA")), "503 5.5.1");
    EXPECT_EQ(say(session, refused).action, Action::reply);
    EXPECT_EQ(status(say(session, "DATA")), "554 5.5.1") << refused;
  }
  for (const std::string_view reply : {"550 5.7.1 No\r\n", "451 4.7.1 Later\r\n"}) {
    Session session = in_state(rules, "envelope");
    session.apply(session.refuse(session.decide(plain("RCPT TO:<a@b>"), ExtensionSet::all()), reply));
    EXPECT_EQ(status(say(session, "DATA")), "554 5.5.1");
    say(session, "RSET");
    say(session, "MAIL FROM:<a@b>");
    EXPECT_EQ(status(say(session, "DATA")), "503 5.5.1");  // another transaction
  }
  Session session = in_state(rules, "ready");
  say(session, "RCPT TO:<a@b>");  // in no transaction
  say(session, "MAIL FROM:<a@b>");
  EXPECT_EQ(status(say(session, "DATA")), "503 5.5.1");
}

// RCPT and BDAT in one segment, and the upstream refuses the RCPT when the octets are already here.
TEST(Session, NoMessageForNobody) {
  const SessionRules rules;
  Session session = in_state(rules, "pending");
  EXPECT_EQ(say(session, "BDAT 5").action, Action::bdat);
  session.recipient_replied(false);
  const Decision decision = say(session, "BDAT 5 LAST");
  EXPECT_EQ(decision.action, Action::bdat_refuse);
  EXPECT_EQ(status(decision), "554 5.5.1");
  EXPECT_FALSE(session.in_transaction());
}

TEST(Session, AMessageThatLostAChunkIsLost) {
  const SessionRules rules;
  // Refused by us, at first and later; refused by the upstream.
  for (const int way : {0, 1, 2}) {
    Session session = in_state(rules, way == 0 ? "accepted" : "chunks");
    if (way == 2) {
      session.chunk_failed();
    } else {
      EXPECT_EQ(say(session, "BDAT 3 LAST x").action, Action::bdat_refuse);
    }
    EXPECT_FALSE(session.in_transaction());
    for (const std::string_view more : {"BDAT 5", "BDAT 5 LAST"}) {
      const Decision decision = say(session, more);
      EXPECT_EQ(decision.action, Action::bdat_refuse);
      EXPECT_EQ(code(decision), "503");
    }
    EXPECT_EQ(code(say(session, "RCPT TO:<a@b>")), "503");
    EXPECT_EQ(code(say(session, "DATA")), "503");
    if (way == 1) {
      EXPECT_EQ(say(session, "RSET").action, Action::rset);
    }
    EXPECT_EQ(say(session, "MAIL FROM:<a@b>").action, Action::mail);
    EXPECT_EQ(code(say(session, "DATA")), "503");
    EXPECT_EQ(say(session, "RCPT TO:<a@b>").action, Action::rcpt);
    EXPECT_EQ(say(session, "BDAT 5 LAST").action, Action::bdat);
  }
}

TEST(Session, RecipientLimit) {
  const SessionRules rules{.recipient_limit = 3, .error_limit = 2};
  Session session = in_state(rules, "accepted");  // 1 accepted
  say(session, "RCPT TO:<a@b>");
  say(session, "RCPT TO:<a@b>");  // 2 pending
  for (int i = 0; i < 10; ++i) {
    const Decision decision = say(session, "RCPT TO:<a@b>");
    EXPECT_EQ(decision.action, Action::reply);  // never an error
    EXPECT_EQ(status(decision), "452 4.5.3");
  }
  session.recipient_replied(false);
  EXPECT_EQ(say(session, "RCPT TO:<a@b>").action, Action::rcpt);
  EXPECT_EQ(say(session, "RCPT TO:<a@b>").action, Action::reply);
  EXPECT_EQ(say(session, "DATA").action, Action::data);
}

TEST(Session, ErrorLimit) {
  const SessionRules rules{.error_limit = 3};
  Session session(rules);
  EXPECT_EQ(say(session, "FOO").action, Action::reply);
  EXPECT_EQ(say(session, "NOOP").action, Action::reply);
  EXPECT_EQ(session.decide({"", LineFault::too_long}, {}).action, Action::reply);
  session.apply(session.decide({"", LineFault::too_long}, {}));
  for (const std::string_view last : {"FOO", "RCPT TO:<a@b>", "BDAT 5", "STARTTLS"}) {
    const Decision decision = session.decide(plain(last), ExtensionSet::all());
    EXPECT_EQ(decision.action, Action::close) << last;
    EXPECT_EQ(decision.reply, replies::too_many_errors);
  }
  EXPECT_EQ(session.decide(plain("NOOP"), {}).action, Action::reply);

  const SessionRules lenient{.error_limit = 0};
  Session patient(lenient);
  for (int i = 0; i < 1000; ++i) ASSERT_EQ(code(say(patient, "FOO")), "500");
}

TEST(Session, RefusalsOfTheUpstreamAreErrors) {
  const SessionRules rules{.error_limit = 3};
  Session session = in_state(rules, "accepted");
  EXPECT_FALSE(session.refused_by_upstream());
  EXPECT_EQ(say(session, "FOO").action, Action::reply);
  EXPECT_EQ(session.decide(plain("FOO"), {}).action, Action::close);
  EXPECT_TRUE(session.refused_by_upstream());
  const SessionRules lenient{.error_limit = 0};
  Session patient = in_state(lenient, "accepted");
  for (int i = 0; i < 1000; ++i) ASSERT_FALSE(patient.refused_by_upstream());
}

TEST(Session, JunkLimit) {
  const SessionRules rules{.junk_command_limit = 4};
  for (const std::string_view junk : {"NOOP", "RSET", "VRFY a", "HELP", "HELO x", "EHLO x"}) {
    Session session = in_state(rules, "ready");
    for (int i = 0; i < 3; ++i) ASSERT_NE(say(session, junk).action, Action::close) << junk;
    EXPECT_EQ(say(session, "MAIL FROM:<a@b>").action, Action::mail) << junk;
    const Decision decision = say(session, junk);
    EXPECT_EQ(decision.action, Action::close) << junk;
    EXPECT_EQ(decision.reply, replies::too_much_junk) << junk;
  }
  Session session = in_state(rules, "accepted");
  for (int i = 0; i < 3; ++i) ASSERT_EQ(say(session, "BDAT 0").action, Action::bdat);
  ASSERT_EQ(say(session, "BDAT 1").action, Action::bdat);
  EXPECT_EQ(session.decide(plain("BDAT 0 LAST"), ExtensionSet::all()).action, Action::bdat);
  EXPECT_EQ(session.decide(plain("BDAT 0"), ExtensionSet::all()).action, Action::close);

  // A STARTTLS that the owner does not grant now.
  constexpr std::string_view not_now = "454 4.7.0 Not now\r\n";
  const SessionRules with_tls{.junk_command_limit = 3, .starttls = StartTls::optional};
  Session eager = in_state(with_tls, "ready");
  for (int i = 0; i < 2; ++i) {
    const Decision refused = eager.refuse(eager.decide(plain("STARTTLS"), ExtensionSet::all()), not_now);
    ASSERT_EQ(refused.reply, not_now);
    eager.apply(refused);
    ASSERT_EQ(say(eager, "MAIL FROM:<a@b>").action, i == 0 ? Action::mail : Action::reply);
  }
  const Decision last = eager.refuse(eager.decide(plain("STARTTLS"), ExtensionSet::all()), not_now);
  EXPECT_EQ(last.action, Action::close);
  EXPECT_EQ(last.reply, replies::too_much_junk);
}

TEST(Session, AMessageMakesUpForErrorsAndJunk) {
  const SessionRules rules{.error_limit = 2, .junk_command_limit = 2};
  Session session = in_state(rules, "ready");
  for (int i = 0; i < 100; ++i) {
    ASSERT_EQ(say(session, "FOO").action, Action::reply);
    ASSERT_EQ(say(session, "NOOP").action, Action::reply);
    ASSERT_EQ(say(session, "MAIL FROM:<a@b>").action, Action::mail);
    ASSERT_EQ(say(session, "RCPT TO:<a@b>").action, Action::rcpt);
    session.recipient_replied(true);
    ASSERT_EQ(say(session, i % 2 == 0 ? "DATA" : "BDAT 5 LAST").action,
              i % 2 == 0 ? Action::data : Action::bdat);
    session.transaction_ended();
  }
  // A transaction without a message does not.
  ASSERT_EQ(say(session, "FOO").action, Action::reply);
  say(session, "MAIL FROM:<a@b>");
  session.transaction_ended();
  EXPECT_EQ(say(session, "FOO").action, Action::close);
}

TEST(Session, DecidingChangesNothing) {
  const SessionRules rules{.error_limit = 2, .junk_command_limit = 2};
  const Session session = in_state(rules, "pending");
  for (int i = 0; i < 10; ++i) {
    for (const std::string_view line : {"FOO", "NOOP", "RSET", "DATA", "BDAT 1", "EHLO x", "RCPT TO:<a@b>"}) {
      EXPECT_NE(session.decide(plain(line), ExtensionSet::all()).action, Action::close) << line;
    }
  }
  EXPECT_EQ(session.recipients_pending(), 1U);
}

// Every reply is one well-formed reply with an enhanced status code of its class (RFC 2034), and holds
// nothing that the client wrote.
TEST(Session, RepliesAreWellFormed) {
  SessionRules rules{.message_size_limit = 10,
                     .error_limit = 0,
                     .junk_command_limit = 0,
                     .auth = {Mechanism::plain},
                     .auth_failure_limit = 0};
  std::mt19937 random(1);
  const std::string_view lines[] = {"EHLO x",
                                    "EHLO",
                                    "MAIL FROM:<a@b>",
                                    "MAIL FROM:<a@b> SIZE=11",
                                    "MAIL FROM:x y",
                                    "MAIL FROM:<\xff@b>",
                                    "MAIL FROM:<a@b> X",
                                    "RCPT TO:<a@b>",
                                    "RCPT TO:<>",
                                    "DATA",
                                    "DATA x",
                                    "BDAT 1",
                                    "BDAT 1 x",
                                    "BDAT",
                                    "RSET",
                                    "NOOP",
                                    "QUIT",
                                    "VRFY x",
                                    "HELP",
                                    "EXPN",
                                    "STARTTLS",
                                    "STARTTLS x",
                                    "AUTH PLAIN",
                                    "AUTH FOO",
                                    "AUTH",
                                    "FOO",
                                    "GET /"};
  Session session(rules);
  for (int i = 0; i < 20000; ++i) {
    const Decision decision = session.decide(plain(lines[random() % std::size(lines)]), ExtensionSet::all());
    if (!decision.reply.empty()) {
      ReplyReader reader(512);
      Reply reply;
      std::size_t consumed = 0;
      ASSERT_TRUE(reader.next(decision.reply, reply, consumed)) << decision.reply;
      ASSERT_EQ(consumed, decision.reply.size());
      ASSERT_EQ(decision.reply[4], decision.reply[0]) << decision.reply;
      ASSERT_EQ(decision.reply[5], '.') << decision.reply;
    }
    const bool ends = decision.action == Action::close || decision.action == Action::quit;
    if (ends || decision.action == Action::data || (decision.action == Action::bdat && decision.bdat.last)) {
      rules.starttls = static_cast<StartTls>(random() % 3);
      session = Session(rules);
      continue;
    }
    session.apply(decision);
    if (decision.action == Action::auth) {
      if (random() % 2 == 0) {
        session.authenticated();
      } else {
        session.apply(session.refuse(decision, replies::bad_credentials));
      }
    }
    if (decision.action == Action::starttls) session.tls_started();
    if (session.recipients_pending() > 0) session.recipient_replied(random() % 2 == 0);
  }
}

TEST(Session, NothingIsAllocated) {
  const SessionRules rules{.error_limit = 0, .junk_command_limit = 0};
  if (RINGMX_COUNTS_ALLOCATIONS == 0) GTEST_SKIP() << "ThreadSanitizer's operator new can't be counted";
  const std::string_view lines[] = {
      "EHLO client.example",
      "NOOP",
      "FOO",
      "MAIL FROM:<a..b@x> SIZE=5 BODY=8BITMIME SMTPUTF8 RET=FULL ENVID=x+2By",
      "RCPT TO:<\xc3\xa9@[IPv6:2001:db8::1]> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a",
      "RCPT TO:<bad",
      "VRFY x",
      "HELP",
      "BDAT 5",
      "BDAT 5 x",
      "RSET",
      "AUTH PLAIN AGEAYg==",
      "AUTH FOO",
      "GET / HTTP/1.1"};
  const std::size_t before = allocations;
  Session session(rules);
  for (const std::string_view line : lines) say(session, line);
  Dialogue dialogue(1000);
  dialogue.expect(Stage::ehlo);
  Stage stage{};
  Reply reply;
  std::size_t consumed = 0;
  const Dialogue::Event event = dialogue.next("250-mx.example\r\n250 SIZE 1000\r\n", stage, reply, consumed);
  const Capabilities capabilities = parse_ehlo_reply(reply.text);
  const std::size_t after = allocations;
  EXPECT_EQ(after - before, 0U);
  EXPECT_EQ(event, Dialogue::Event::reply);
  EXPECT_EQ(capabilities.size_limit, 1000U);
}

// An oracle in other terms: a list of what became of each recipient, and flags. It does not parse: it
// is told what each line of the walk is.
struct Model {
  StartTls starttls = StartTls::off;
  bool secured = false;
  bool hello = false;
  bool esmtp = false;
  bool open = false;       // a transaction
  bool utf8 = false;       // of the transaction
  bool chunked = false;    // has had a chunk
  bool broken = false;     // lost one
  std::string recipients;  // '?', '+', '-'
  unsigned errors = 0;
  unsigned junk = 0;

  [[nodiscard]] auto count(char what) const {
    return static_cast<std::uint32_t>(std::count(recipients.begin(), recipients.end(), what));
  }
  void clear() {
    open = utf8 = chunked = broken = false;
    recipients.clear();
  }
};

enum class Kind {
  helo,
  ehlo,
  helo_bad,
  mail,
  mail_utf8,
  mail_big,
  mail_bad,
  mail_unknown,
  rcpt,
  rcpt_utf8,
  rcpt_bad,
  data,
  data_bad,
  chunk,
  chunk_empty,
  chunk_last,
  chunk_bad,
  chunk_lost,
  rset,
  rset_bad,
  noop,
  vrfy,
  vrfy_bad,
  help,
  starttls,
  starttls_bad,
  not_done,
  rubbish,
  broken_line,
  long_line
};

struct Phrase {
  Kind kind;
  std::string_view line;
  LineFault fault = LineFault::none;
};

const std::string long_noop = "NOOP " + std::string(600, 'x');

const Phrase phrases[] = {
    {Kind::helo, "HELO x"},
    {Kind::ehlo, "ehlo x.example"},
    {Kind::helo_bad, "EHLO"},
    {Kind::mail, "MAIL FROM:<a@b>"},
    {Kind::mail, "MAIL FROM:<>"},
    {Kind::mail_utf8, "MAIL FROM:<\xc3\xa9@b> SMTPUTF8"},
    {Kind::mail_big, "MAIL FROM:<a@b> SIZE=101"},
    {Kind::mail_bad, "MAIL FROM:<a@>"},
    {Kind::mail_unknown, "MAIL FROM:<a@b> AUTH=<>"},
    {Kind::rcpt, "RCPT TO:<a@b>"},
    {Kind::rcpt, "rcpt to: <a@b>"},
    {Kind::rcpt_utf8, "RCPT TO:<\xc3\xa9@b>"},
    {Kind::rcpt_bad, "RCPT TO:<a>"},
    {Kind::data, "DATA"},
    {Kind::data_bad, "DATA 5"},
    {Kind::chunk, "BDAT 5"},
    {Kind::chunk_empty, "BDAT 0"},
    {Kind::chunk_last, "BDAT 5 LAST"},
    {Kind::chunk_bad, "BDAT 5 LAST x"},
    {Kind::chunk_lost, "BDAT five"},
    {Kind::rset, "RSET"},
    {Kind::rset_bad, "RSET x"},
    {Kind::noop, "NOOP"},
    {Kind::vrfy, "VRFY a"},
    {Kind::vrfy_bad, "VRFY"},
    {Kind::help, "HELP"},
    {Kind::starttls, "StartTLS"},
    {Kind::starttls_bad, "STARTTLS now"},
    {Kind::not_done, "AUTH PLAIN"},
    {Kind::rubbish, "XYZZY"},
    {Kind::broken_line, "NOOP\nNOOP", LineFault::bare_lf},
    {Kind::long_line, "", LineFault::too_long},
    {Kind::long_line, long_noop},
};

struct Expected {
  Action action = Action::reply;
  int code = 0;  // 0: others reply
};

Expected expect(const Model& m, Kind kind, const SessionRules& rules, bool chunking, bool smtputf8) {
  const auto no_message = [&]() -> int {  // why no message may begin or go on
    if (m.broken || !m.open) return 503;
    if (m.count('?') + m.count('+') > 0) return 0;
    return m.count('-') > 0 ? 554 : 503;
  };
  const auto recipient = [&](bool good, int otherwise) -> Expected {
    if (!m.open || m.chunked) return {Action::reply, 503};
    if (!good) return {Action::reply, otherwise};
    if (m.count('?') + m.count('+') >= rules.recipient_limit) return {Action::reply, 452};
    return {Action::rcpt, 0};
  };
  const auto sender = [&](Expected then) -> Expected {
    return !m.hello || m.open ? Expected{Action::reply, 503} : then;
  };
  const auto chunk = [&](bool good) -> Expected {
    if (!chunking) return {Action::bdat_refuse, 502};
    if (const int why = no_message(); why != 0) return {Action::bdat_refuse, why};
    return good ? Expected{Action::bdat, 0} : Expected{Action::bdat_refuse, 501};
  };
  if (m.starttls == StartTls::required && !m.secured) {
    switch (kind) {
      case Kind::chunk:
      case Kind::chunk_empty:
      case Kind::chunk_last:
      case Kind::chunk_bad:
        return {Action::bdat_refuse, 530};
      case Kind::mail:
      case Kind::mail_utf8:
      case Kind::mail_big:
      case Kind::mail_bad:
      case Kind::mail_unknown:
      case Kind::rcpt:
      case Kind::rcpt_utf8:
      case Kind::rcpt_bad:
      case Kind::data:
      case Kind::data_bad:
      case Kind::vrfy:
      case Kind::vrfy_bad:
      case Kind::not_done:
        return {Action::reply, 530};
      default:
        break;
    }
  }
  switch (kind) {
    case Kind::starttls:
    case Kind::starttls_bad:
      if (m.secured) return {Action::reply, 503};
      if (m.starttls == StartTls::off) return {Action::reply, 502};
      return kind == Kind::starttls ? Expected{Action::starttls, 220} : Expected{Action::reply, 501};
    case Kind::helo:
      return {Action::greet, 0};
    case Kind::ehlo:
      return {Action::greet_esmtp, 0};
    case Kind::mail:
      return sender({Action::mail, 250});
    case Kind::mail_utf8:
      return sender(smtputf8 ? Expected{Action::mail, 250} : Expected{Action::reply, 555});
    case Kind::mail_big:
      return sender({Action::reply, 552});
    case Kind::mail_bad:
      return sender({Action::reply, 501});
    case Kind::mail_unknown:
      return sender({Action::reply, 555});
    case Kind::rcpt:
      return recipient(true, 0);
    case Kind::rcpt_utf8:
      return recipient(m.utf8, 553);
    case Kind::rcpt_bad:
      return recipient(false, 501);
    case Kind::data:
    case Kind::data_bad:
      if (const int why = no_message(); why != 0) return {Action::reply, why};
      if (m.chunked) return {Action::reply, 503};
      return kind == Kind::data ? Expected{Action::data, 0} : Expected{Action::reply, 501};
    case Kind::chunk:
    case Kind::chunk_empty:
    case Kind::chunk_last:
      return chunk(true);
    case Kind::chunk_bad:
      return chunk(false);
    case Kind::chunk_lost:
      return {Action::close, 501};
    case Kind::rset:
      return {Action::rset, 250};
    case Kind::noop:
      return {Action::reply, 250};
    case Kind::vrfy:
      return {Action::reply, 252};
    case Kind::help:
      return {Action::reply, 214};
    case Kind::helo_bad:
    case Kind::rset_bad:
    case Kind::vrfy_bad:
      return {Action::reply, 501};
    case Kind::not_done:
      return {Action::reply, 502};
    case Kind::rubbish:
    case Kind::broken_line:
    case Kind::long_line:
      return {Action::reply, 500};
  }
  return {};
}

TEST(Session, RandomWalkAgainstTheModel) {
  const char* const given = std::getenv("RINGMX_TEST_SEED");
  const auto seed =
      given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device{}();
  std::cout << "RINGMX_TEST_SEED=" << seed << '\n';
  std::mt19937 random(seed);
  SessionRules rules{
      .message_size_limit = 100, .recipient_limit = 3, .error_limit = 12, .junk_command_limit = 8};
  Session session(rules);
  Model m;
  std::size_t handshakes = 0;
  std::size_t messages = 0;
  std::size_t closes = 0;
  for (int step = 0; step < 1'000'000; ++step) {
    // What the upstream says in between.
    if (m.count('?') > 0 && random() % 3 == 0) {
      const bool accepted = random() % 2 == 0;
      session.recipient_replied(accepted);
      m.recipients[m.recipients.find('?')] = accepted ? '+' : '-';
    }
    if (m.open && m.chunked && random() % 3 == 0) {
      if (random() % 4 == 0) {
        session.chunk_failed();
        m.broken = true;
        m.open = false;
      } else {
        session.chunk_accepted();
      }
    }

    // A client that gets somewhere: half of the time it says what an ordinary one would.
    const Phrase* phrase = &phrases[random() % std::size(phrases)];
    if (random() % 2 == 0) {
      Kind wanted = Kind::ehlo;
      if (m.hello) wanted = Kind::mail;
      if (m.hello && !m.secured && m.starttls != StartTls::off) wanted = Kind::starttls;
      if (m.open) wanted = m.count('+') > 0 ? Kind::chunk : Kind::rcpt;
      if (m.open && m.count('+') > 0 && random() % 2 == 0) wanted = m.chunked ? Kind::chunk_last : Kind::data;
      for (const Phrase& p : phrases) {
        if (p.kind == wanted) phrase = &p;
      }
    }
    ExtensionSet offered = ExtensionSet::all();
    const bool chunking = random() % 8 != 0;
    const bool smtputf8 = random() % 8 != 0;
    if (!chunking) offered.remove(Extension::chunking);
    if (!smtputf8) offered.remove(Extension::smtputf8);

    Expected expected = expect(m, phrase->kind, rules, chunking, smtputf8);
    const bool error = expected.code >= 500;
    const bool junk = !error && (phrase->kind == Kind::noop || phrase->kind == Kind::rset ||
                                 phrase->kind == Kind::vrfy || phrase->kind == Kind::help ||
                                 (m.hello && (phrase->kind == Kind::helo || phrase->kind == Kind::ehlo)) ||
                                 (phrase->kind == Kind::chunk_empty && expected.action == Action::bdat));
    m.errors += error ? 1 : 0;
    m.junk += junk ? 1 : 0;
    if (expected.action != Action::close &&
        (error ? m.errors >= rules.error_limit : junk && m.junk >= rules.junk_command_limit)) {
      expected = {Action::close, 421};
    }

    // As the owner must.
    while (expected.action == Action::starttls && m.count('?') > 0) {
      session.recipient_replied(false);
      m.recipients[m.recipients.find('?')] = '-';
    }

    const Decision decision = session.decide({phrase->line, phrase->fault}, offered);
    SCOPED_TRACE("step " + std::to_string(step) + ": " + std::string(phrase->line));
    ASSERT_EQ(decision.action, expected.action) << decision.reply;
    ASSERT_EQ(decision.reply.empty() ? 0 : std::stoi(std::string(decision.reply.substr(0, 3))),
              expected.code);
    session.apply(decision);

    bool over = false;
    switch (expected.action) {
      case Action::greet:
      case Action::greet_esmtp:
        m.clear();
        m.hello = true;
        m.esmtp = expected.action == Action::greet_esmtp;
        break;
      case Action::mail:
        m.clear();
        m.open = true;
        m.utf8 = phrase->kind == Kind::mail_utf8;
        break;
      case Action::rcpt:
        m.recipients += '?';
        break;
      case Action::data:
        over = true;
        break;
      case Action::bdat:
        m.chunked = true;
        over = phrase->kind == Kind::chunk_last;
        break;
      case Action::bdat_refuse:
        m.broken = m.broken || m.open;
        m.open = false;
        break;
      case Action::rset:
        m.clear();
        break;
      case Action::starttls:
        session.tls_started();
        m.clear();
        m.hello = m.esmtp = false;
        m.secured = true;
        ++handshakes;
        break;
      case Action::close:
        rules.starttls = static_cast<StartTls>(random() % 3);
        session = Session(rules);
        m = {};
        m.starttls = rules.starttls;
        ++closes;
        break;
      case Action::reply:
        if (decision.verb == Verb::rcpt && m.open && !m.chunked) m.recipients += '-';
        break;
      case Action::auth:
      case Action::auth_response:
      case Action::quit:
        break;
    }
    if (over) {
      while (m.count('?') > 0) {
        session.recipient_replied(true);
        m.recipients[m.recipients.find('?')] = '+';
      }
      if (m.count('+') > 0) m.errors = m.junk = 0;
      session.transaction_ended();
      m.clear();
      ++messages;
    }
    ASSERT_EQ(session.secured(), m.secured);
    ASSERT_EQ(session.greeted(), m.hello);
    ASSERT_EQ(session.esmtp(), m.esmtp);
    ASSERT_EQ(session.in_transaction(), m.open);
    ASSERT_EQ(session.recipients_accepted(), m.count('+'));
    ASSERT_EQ(session.recipients_pending(), m.count('?'));
  }
  EXPECT_GT(messages, 10000U);
  EXPECT_GT(closes, 1000U);
  EXPECT_GT(handshakes, 1000U);
}

}  // namespace
}  // namespace ringmx::smtp
