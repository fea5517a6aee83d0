// SPDX-License-Identifier: GPL-3.0-or-later
// A session and a policy together, as a client of a listener meets them.
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "policy/rules.h"
#include "ringmx/smtp/session.h"

namespace ringmx::policy {
namespace {

using smtp::Action;
using smtp::Decision;
using smtp::ExtensionSet;
using smtp::Session;
using smtp::SessionRules;
using smtp::StartTls;

constexpr std::uint16_t tls12 = 0x0303;
constexpr std::uint16_t tls13 = 0x0304;

// One side of a listener: what Client does of it, without bytes.
class Server {
 public:
  Server(const SessionRules& rules, const Policy& policy) : session_(rules), policy_(policy) {}

  Session& session() { return session_; }
  Facts& facts() { return facts_; }

  void start_tls(std::uint16_t version) {
    session_.tls_started();
    const Address client = facts_.client;
    facts_ = {};
    facts_.client = client;
    facts_.tls.version = version;
  }

  // What `line` comes to; it is done. The policy is asked if `enforced`.
  Decision say(std::string_view line, bool enforced = true) {
    Decision decision = session_.decide({line, smtp::LineFault::none}, ExtensionSet::all());
    facts_.recipient = {};
    if (decision.action == Action::mail) {
      line_ = line;
      facts_.sender = session_.decide({line_, smtp::LineFault::none}, ExtensionSet::all()).mail.reverse_path;
    }
    if (decision.action == Action::rcpt) facts_.recipient = decision.rcpt.forward_path;
    const auto step = step_of(session_, decision);
    if (step && enforced) {
      const Verdict verdict = policy_.decide(*step, facts_);
      if (!verdict.allowed()) decision = session_.refuse(decision, verdict.reply);
    }
    session_.apply(decision);
    if (decision.action == Action::greet || decision.action == Action::greet_esmtp)
      facts_.helo = line.substr(5);
    return decision;
  }

 private:
  Session session_;
  const Policy& policy_;
  Facts facts_;
  std::string line_;
};

std::string code(const Decision& decision) {
  return decision.reply.empty() ? "---" : std::string(decision.reply.substr(0, 3));
}

// ---------------------------------------------------------------- the table

const std::vector<std::string_view> states = {"connected", "ready",   "envelope", "pending",
                                              "accepted",  "refused", "chunks",   "failed"};

// As a client brings a state about that no rule hinders.
void bring_to(Server& server, std::string_view state) {
  if (state == "connected") return;
  server.say("EHLO client.example", false);
  if (state == "ready") return;
  server.say("MAIL FROM:<a@b.example>", false);
  if (state == "envelope") return;
  server.say("RCPT TO:<c@d.example>", false);
  if (state == "pending") return;
  server.session().recipient_replied(state != "refused");
  if (state == "accepted" || state == "refused") return;
  server.say("BDAT 5", false);
  if (state == "chunks") return;
  server.session().chunk_failed();
}

struct Row {
  std::string_view line;
  std::vector<std::string_view> cells;  // where nothing is enforced; a step has its name behind the code
};
const std::vector<Row>& rows() {
  const auto all = [](std::string_view cell) { return std::vector<std::string_view>(8, cell); };
  static const std::vector<Row> out = {
      {"HELO client.example", all("---")},
      {"EHLO client.example", all("---")},
      {"EHLO", all("501")},
      {"MAIL FROM:<a@b.example>", {"503", "250 mail", "503", "503", "503", "503", "503", "250 mail"}},
      {"MAIL FROM:<>", {"503", "250 mail", "503", "503", "503", "503", "503", "250 mail"}},
      {"MAIL FROM:<a b>", {"503", "501", "503", "503", "503", "503", "503", "501"}},
      {"RCPT TO:<c@d.example>", {"503", "503", "--- rcpt", "--- rcpt", "--- rcpt", "--- rcpt", "503", "503"}},
      {"RCPT TO:<c d>", {"503", "503", "501", "501", "501", "501", "503", "503"}},
      {"DATA", {"503", "503", "503", "--- data", "--- data", "554", "503", "503"}},
      {"DATA x", {"503", "503", "503", "501", "501", "554", "503", "503"}},
      {"BDAT 5", {"503", "503", "503", "--- data", "--- data", "554", "---", "503"}},
      {"BDAT 0 LAST", {"503", "503", "503", "--- data", "--- data", "554", "---", "503"}},
      {"BDAT 5 LAST", {"503", "503", "503", "--- data", "--- data", "554", "---", "503"}},
      {"BDAT 5 x", {"503", "503", "503", "501", "501", "554", "501", "503"}},
      {"BDAT x", all("501")},
      {"RSET", all("250")},
      {"NOOP", all("250")},
      {"HELP", all("214")},
      {"QUIT", all("221")},
      {"VRFY a@b.example", all("252")},
      {"EXPN list", all("502")},
      {"STARTTLS", all("tls")},
      {"STARTTLS x", all("tls x")},
      {"AUTH PLAIN AGEAYg==", {"503", "--- auth", "503", "503", "503", "503", "503", "--- auth"}},
      {"AUTH PLAIN", {"503", "--- auth", "503", "503", "503", "503", "503", "--- auth"}},
      {"AUTH LOGIN", {"503", "504", "503", "503", "503", "503", "503", "504"}},
      {"AUTH", {"503", "501", "503", "503", "503", "503", "503", "501"}},
      {"ETRN x", all("502")},
      {"TURN", all("502")},
      {"XCLIENT ADDR=127.0.0.1", all("502")},
      {"XFORWARD ADDR=127.0.0.1", all("502")},
      {"FOO", all("500")},
      {"GET / HTTP/1.1", all("421")},
  };
  return out;
}

struct Enforcement {
  StartTls starttls;
  std::optional<Step> step;  // of a rule
  Encryption tls = Encryption::required;
  Otherwise otherwise = Otherwise::refuse;
};

std::string expected(const Enforcement& e, std::uint16_t version, const Decision& decision,
                     std::string_view state, std::string_view cell) {
  const bool in_clear = version == 0;
  if (cell.starts_with("tls")) {
    if (!in_clear) return "503";
    if (e.starttls == StartTls::off) return "502";
    return cell == "tls" ? "220" : "501";
  }
  using smtp::Verb;
  // RFC 3207 section 4 and PROTOCOLS: what may be said all the same.
  const bool harmless = decision.verb == Verb::helo || decision.verb == Verb::ehlo ||
                        decision.verb == Verb::noop || decision.verb == Verb::rset ||
                        decision.verb == Verb::help || decision.verb == Verb::quit ||
                        decision.verb == Verb::unknown || decision.verb == Verb::foreign;
  const bool uncountable = decision.verb == Verb::bdat && decision.action == Action::close;
  if (e.starttls == StartTls::required && in_clear && !harmless && !uncountable) return "530";
  if (e.starttls == StartTls::required_for_auth && in_clear && decision.verb == Verb::auth) return "530";
  const bool at_step = e.step && cell.size() > 4 && cell.substr(4) == name_of(*e.step);
  const bool lacks = in_clear || (e.tls == Encryption::tls13 && version != tls13);
  if (at_step && lacks && e.otherwise == Otherwise::refuse) return in_clear ? "530" : "550";
  if (at_step && lacks && e.otherwise == Otherwise::tempfail) return "451";
  static_cast<void>(state);
  return std::string(cell.substr(0, 3));
}

TEST(Enforcement, EveryVerbInEveryStateUnderEveryStep) {
  std::vector<Enforcement> enforcements;
  for (const StartTls starttls :
       {StartTls::off, StartTls::optional, StartTls::required, StartTls::required_for_auth}) {
    enforcements.push_back({starttls, std::nullopt});
    for (const Step step : {Step::auth, Step::mail, Step::rcpt, Step::data}) {
      for (const Encryption tls : {Encryption::required, Encryption::tls13}) {
        for (const Otherwise otherwise :
             {Otherwise::refuse, Otherwise::tempfail, Otherwise::mark, Otherwise::next}) {
          enforcements.push_back({starttls, step, tls, otherwise});
        }
      }
    }
  }
  std::map<std::string, std::size_t> seen;
  for (const Enforcement& e : enforcements) {
    Rule rule;
    rule.name = "rule";
    if (e.step) rule.steps = {*e.step};
    rule.tls = e.tls;
    rule.otherwise = e.otherwise;
    const Policy policy({&rule});
    const SessionRules rules{.message_size_limit = 1000,
                             .error_limit = 0,
                             .junk_command_limit = 0,
                             .starttls = e.starttls,
                             .auth = {smtp::Mechanism::plain}};
    for (const std::uint16_t version : {std::uint16_t{0}, tls12, tls13}) {
      for (std::size_t s = 0; s < states.size(); ++s) {
        // There is no transaction before TLS where that is required.
        if (e.starttls == StartTls::required && version == 0 && s > 1) continue;
        for (const Row& row : rows()) {
          SCOPED_TRACE(std::string(row.line) + " in " + std::string(states[s]) + ", STARTTLS " +
                       std::to_string(static_cast<int>(e.starttls)) + ", rule at " +
                       std::string(e.step ? name_of(*e.step) : "nothing") + ", TLS " +
                       std::to_string(version));
          Server server(rules, policy);
          if (version != 0) server.start_tls(version);
          bring_to(server, states[s]);
          const std::uint32_t pending = server.session().recipients_pending();
          const bool in_transaction = server.session().in_transaction();
          const Decision decision = server.say(row.line);
          const std::string should = expected(e, version, decision, states[s], row.cells[s]);
          EXPECT_EQ(code(decision), should);
          ++seen[code(decision)];
          // Who refuses passes nothing on, and counts nothing as asked.
          if (should[0] == '4' || should[0] == '5') {
            EXPECT_TRUE(decision.action == Action::reply || decision.action == Action::bdat_refuse ||
                        decision.action == Action::close);
            EXPECT_EQ(server.session().recipients_pending(), pending);
            EXPECT_EQ(decision.action == Action::bdat_refuse,
                      decision.verb == smtp::Verb::bdat && decision.action != Action::close);
            EXPECT_EQ(server.session().in_transaction(),
                      in_transaction && decision.action != Action::bdat_refuse);
          }
        }
      }
    }
  }
  for (const char* each : {"---", "250", "220", "221", "214", "252", "421", "451", "500", "501", "502", "503",
                           "504", "530", "550", "554"}) {
    EXPECT_GT(seen[each], 0U) << each;
  }
}

// What is refused by a rule is an error like any other, and the last one ends the session; a BDAT's octets
// are known all the same.
TEST(Enforcement, RefusalsCountAsErrors) {
  Rule rule;
  rule.steps = {Step::mail, Step::data};
  rule.tls = Encryption::required;
  const Policy policy({&rule});
  const SessionRules rules{.error_limit = 3, .starttls = StartTls::optional};
  Server server(rules, policy);
  server.say("EHLO x");
  EXPECT_EQ(code(server.say("MAIL FROM:<a@b.example>")), "530");
  EXPECT_EQ(code(server.say("MAIL FROM:<a@b.example>")), "530");
  const Decision last = server.say("MAIL FROM:<a@b.example>");
  EXPECT_EQ(last.action, Action::close);
  EXPECT_EQ(last.reply, smtp::replies::too_many_errors);

  Server other(rules, policy);
  bring_to(other, "accepted");
  const Decision chunk = other.say("BDAT 12345");
  EXPECT_EQ(chunk.action, Action::bdat_refuse);
  EXPECT_EQ(chunk.bdat.size, 12345U);
  EXPECT_EQ(code(chunk), "530");
  EXPECT_EQ(code(other.say("BDAT 5")), "503");  // the first one is missing
  EXPECT_EQ(other.say("BDAT 5").action, Action::close);

  // A temporary one is none: what the client sends is no mistake of its.
  rule.otherwise = Otherwise::tempfail;
  Server third(rules, policy);
  third.say("EHLO x");
  for (int i = 0; i < 10; ++i) EXPECT_EQ(code(third.say("MAIL FROM:<a@b.example>")), "451");
}

// ---------------------------------------------------------------- whole sessions against a model

// The model, written from RFC 5321 (4.1.4), 3207 (4, 4.2), 3030 (2) and 4954 (4) and from what the manual
// says of rules. It knows commands by number, domains by letter, and nothing of ringmx.
struct Wanted {
  int steps;                   // bits: mail 1, rcpt 2, data 4, auth 8
  int client, helo, from, to;  // -1: any; from 3: the null sender
  int tls;                     // 0, 12, 13
  int otherwise;               // 0 refuse, 1 tempfail, 2 mark, 3 next
  int known = -1;              // -1: any, 0: not authenticated, 1: authenticated
};
enum Says {
  says_helo,
  says_mail,
  says_rcpt,
  says_data,
  says_bdat,
  says_bdat_last,
  says_rset,
  says_noop,
  says_vrfy,
  says_auth,
  says_starttls
};
struct Model {
  int starttls;  // 0 off, 1 optional, 2 required, 3 required for AUTH
  int client;
  const std::vector<Wanted>& rules;
  bool has_auth;
  int tls = 0;
  bool known = false;  // who the client is
  bool greeted = false;
  int helo = -1, from = -1;
  enum { none, envelope, chunks, failed } transaction = none;
  int accepted = 0;
  bool refused_one = false;

  std::string ask(int step, int to) const {
    for (const Wanted& r : rules) {
      if ((r.steps & step) == 0) continue;
      if (r.client >= 0 && r.client != client) continue;
      if (r.helo >= 0 && r.helo != helo) continue;
      if (r.from >= 0 && r.from != from) continue;
      if (r.to >= 0 && r.to != to) continue;
      if (r.known >= 0 && (r.known == 1) != known) continue;
      const bool has = tls >= r.tls;
      if (r.otherwise == 2 || (r.otherwise == 3 && !has)) continue;
      if (has) return "";
      return r.otherwise == 1 ? "451" : tls == 0 ? "530" : "550";
    }
    return "";
  }
  std::string no_message() const {
    if (transaction == none || transaction == failed) return "503";
    if (accepted == 0) return refused_one ? "554" : "503";
    return "";
  }
  void end() { transaction = none, accepted = 0, refused_one = false; }

  std::string hears(Says what, int argument) {
    const bool barred = starttls == 2 && tls == 0 &&
                        (what == says_mail || what == says_rcpt || what == says_data || what == says_vrfy ||
                         what == says_auth || what == says_bdat || what == says_bdat_last);
    if (barred) return "530";
    switch (what) {
      case says_helo:
        end();
        greeted = true;
        helo = argument;
        return "---";
      case says_mail: {
        if (!greeted || transaction == envelope || transaction == chunks) return "503";
        const int before = std::exchange(from, argument);
        if (const std::string no = ask(1, -1); !no.empty()) {
          from = before;
          return no;
        }
        end();
        transaction = envelope;
        return "250";
      }
      case says_rcpt:
        if (transaction != envelope) return "503";
        if (const std::string no = ask(2, argument); !no.empty()) {
          refused_one = true;
          return no;
        }
        return "---";
      case says_data:
      case says_bdat:
      case says_bdat_last: {
        std::string no = no_message();
        if (no.empty() && what == says_data && transaction == chunks) no = "503";
        if (no.empty() && transaction == envelope) no = ask(4, -1);
        if (!no.empty()) {
          if (what != says_data && transaction != none) transaction = failed;
          return no;
        }
        if (what == says_bdat) transaction = chunks;
        return "---";
      }
      case says_rset:
        end();
        return "250";
      case says_noop:
        return "250";
      case says_vrfy:
        return "252";
      case says_auth:
        if (starttls == 3 && tls == 0) return "530";
        if (!has_auth) return "502";
        if (!greeted || helo == 1 || known || transaction == envelope || transaction == chunks) return "503";
        if (const std::string no = ask(8, -1); !no.empty()) return no;
        return "---";
      case says_starttls:
        return tls != 0 ? "503" : starttls == 0 ? "502" : "220";
    }
    return "";
  }
  void secured(int version) {
    end();
    greeted = false;
    helo = from = -1;
    tls = version;
    known = false;
  }
};

const std::string domain_names[] = {"a.example", "b.example", "c.example"};

Rule rule_of(const Wanted& wanted) {
  const auto one = [](int n) {
    if (n == 3) return std::make_shared<const Domains>(std::vector<std::string_view>{"<>"});
    return std::make_shared<const Domains>(std::vector<std::string_view>{domain_names[n]});
  };
  Rule rule;
  if ((wanted.steps & 1) != 0) rule.steps.add(Step::mail);
  if ((wanted.steps & 2) != 0) rule.steps.add(Step::rcpt);
  if ((wanted.steps & 4) != 0) rule.steps.add(Step::data);
  if ((wanted.steps & 8) != 0) rule.steps.add(Step::auth);
  if (wanted.known >= 0) rule.authenticated = wanted.known == 1;
  if (wanted.client >= 0) {
    Address address{};
    address[15] = static_cast<std::uint8_t>(wanted.client);
    rule.clients = std::make_shared<const Networks>(std::vector<Network>{{address, 128}});
  }
  if (wanted.helo >= 0) rule.helo = one(wanted.helo);
  if (wanted.from >= 0) rule.senders = one(wanted.from);
  if (wanted.to >= 0) rule.recipients = one(wanted.to);
  rule.tls = wanted.tls == 0    ? Encryption::optional
             : wanted.tls == 12 ? Encryption::required
                                : Encryption::tls13;
  rule.otherwise = static_cast<Otherwise>(wanted.otherwise);
  return rule;
}

TEST(Enforcement, SessionsAgreeWithAModel) {
  std::mt19937 random(20);
  const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
  const std::string helo[] = {"EHLO a.example", "HELO b.example", "EHLO c.example"};
  const std::string mail[] = {"MAIL FROM:<x@a.example>", "MAIL FROM:<x@B.example>",
                              "MAIL FROM:<x@c.example> SIZE=5", "MAIL FROM:<>"};
  const std::string rcpt[] = {"RCPT TO:<x@a.example>", "RCPT TO:<x@b.example>", "RCPT TO:<x@c.EXAMPLE>"};
  long steps = 0;
  std::map<std::string, long> seen;
  long passed = 0;
  long logins = 0;
  while (steps < RANDOM_STEPS) {
    std::vector<Wanted> wanted(static_cast<std::size_t>(below(5)));
    for (Wanted& w : wanted) {
      w = {1 << below(4), below(2) - 1, -1, -1, -1, below(3) == 0 ? 0 : 12 + below(2), below(4)};
      if (below(3) == 0) w.helo = below(3);
      if (below(4) == 0) w.known = below(2);
      if (w.steps != 8 && below(3) == 0) w.from = below(4);
      if (w.steps == 2 && below(2) == 0) w.to = below(3);
      if (w.steps != 2 && w.steps != 8 && below(3) == 0) w.steps = 1 | 4;
    }
    std::vector<Rule> rules;
    for (const Wanted& w : wanted) rules.push_back(rule_of(w));
    std::vector<const Rule*> pointers;
    for (const Rule& rule : rules) pointers.push_back(&rule);
    const Policy policy(pointers);
    // Many sessions of a policy: it is dear to make.
    for (int session = 0; session < 20; ++session) {
      Model model{below(4), below(2), wanted, below(4) != 0};
      constexpr StartTls words[] = {StartTls::off, StartTls::optional, StartTls::required,
                                    StartTls::required_for_auth};
      const SessionRules session_rules{
          .error_limit = 0,
          .junk_command_limit = 0,
          .starttls = words[model.starttls],
          .auth = model.has_auth ? smtp::MechanismSet{smtp::Mechanism::plain} : smtp::MechanismSet(),
          .auth_failure_limit = 0};
      Server server(session_rules, policy);
      server.facts().client[15] = static_cast<std::uint8_t>(model.client);
      for (int n = below(60); n-- > 0; ++steps) {
        Says what = static_cast<Says>(below(11));
        if (what > says_rset && below(3) != 0) what = static_cast<Says>(below(6));  // mostly mail
        const int argument = below(what == says_mail ? 4 : 3);
        constexpr std::string_view others[] = {"DATA", "BDAT 5",           "BDAT 5 LAST",  "RSET",
                                               "NOOP", "VRFY x@a.example", "AUTH PLAIN x", "STARTTLS"};
        const std::string_view line = what == says_helo   ? helo[argument]
                                      : what == says_mail ? mail[argument]
                                      : what == says_rcpt ? rcpt[argument]
                                                          : others[what - says_data];
        const std::string should = model.hears(what, argument);
        const Decision decision = server.say(line);
        ASSERT_EQ(code(decision), should) << line << " at step " << steps;
        ++seen[should];
        if (decision.action == Action::rcpt) {
          const bool accepted = below(4) != 0;
          server.session().recipient_replied(accepted);
          if (accepted)
            ++model.accepted;
          else
            model.refused_one = true;
          ++passed;
        } else if (decision.action == Action::data ||
                   (decision.action == Action::bdat && decision.bdat.last)) {
          server.session().transaction_ended();
          model.end();
          ++passed;
        } else if (decision.action == Action::bdat) {
          if (below(4) != 0) {
            server.session().chunk_accepted();
          } else {
            server.session().chunk_failed();
            model.transaction = Model::failed;
          }
        } else if (decision.action == Action::auth) {
          model.known = below(3) != 0;
          if (model.known) {
            server.session().authenticated();
            server.facts().user = "somebody";
          } else {
            server.session().apply(server.session().refuse(decision, smtp::replies::bad_credentials));
          }
          ++passed;
          ++logins;
        } else if (decision.action == Action::starttls) {
          const int version = 12 + below(2);
          server.start_tls(version == 12 ? tls12 : tls13);
          model.secured(version);
        }
      }
    }
  }
  for (const char* each : {"---", "250", "220", "252", "451", "502", "503", "530", "550", "554"})
    EXPECT_GT(seen[each], steps / 10'000) << each;
  EXPECT_GT(passed, steps / 100);
  EXPECT_GT(logins, steps / 1000);
}

}  // namespace
}  // namespace ringmx::policy
