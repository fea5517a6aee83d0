// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/rules.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "policy/explain.h"

namespace ringmx::policy {
namespace {

using Patterns = std::vector<std::string_view>;

Address ipv4(std::uint8_t last) {
  return {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, last};
}
std::shared_ptr<const Networks> only(std::uint8_t last) {
  return std::make_shared<const Networks>(std::vector<Network>{{ipv4(last), 128}});
}
std::shared_ptr<const Domains> domains(const Patterns& patterns) {
  return std::make_shared<const Domains>(patterns);
}
smtp::Path path(std::string_view mailbox) {
  const std::size_t at = mailbox.rfind('@');
  if (at == mailbox.npos) return {mailbox, mailbox, {}};
  return {mailbox, mailbox.substr(0, at), mailbox.substr(at + 1)};
}

Rule rule(std::string name) {
  Rule out;
  out.name = std::move(name);
  out.steps = {Step::mail};
  return out;
}
Rule requiring_tls(std::string name) {
  Rule out = rule(std::move(name));
  out.tls = Encryption::required;
  return out;
}

Verdict decide(const std::vector<Rule>& rules, const Facts& facts, Step step = Step::mail) {
  std::vector<const Rule*> pointers;
  for (const Rule& one : rules) pointers.push_back(&one);
  return Policy(pointers).decide(step, facts);
}
std::string decider(const std::vector<Rule>& rules, const Facts& facts) {
  const Verdict verdict = decide(rules, facts);
  return verdict.rule == nullptr ? "" : verdict.rule->name;
}

Facts somebody() {
  Facts facts;
  facts.client = ipv4(1);
  facts.helo = "mail.example.org";
  facts.sender = path("a@example.org");
  facts.recipient = path("b@example.com");
  return facts;
}

constexpr std::uint16_t tls12 = 0x0303;
constexpr std::uint16_t tls13 = 0x0304;

TEST(Policy, WithoutRulesAllIsAllowedAndNobodyNeedAsk) {
  const Policy policy;
  EXPECT_FALSE(policy.asks_for_earlier_steps());
  for (std::size_t step = 0; step < step_count; ++step) {
    EXPECT_FALSE(policy.asks(static_cast<Step>(step)));
    EXPECT_TRUE(policy.decide(static_cast<Step>(step), {}).allowed());
  }
}

TEST(Policy, ARuleIsAskedAtItsStepsAlone) {
  Rule one = requiring_tls("one");
  one.steps = {Step::rcpt, Step::data};
  const Policy policy({&one});
  for (const Step step : {Step::connect, Step::auth, Step::mail, Step::rcpt, Step::data}) {
    EXPECT_EQ(policy.asks(step), one.steps.has(step));
    EXPECT_EQ(policy.decide(step, somebody()).allowed(), !one.steps.has(step));
  }
}

TEST(Policy, SaysWhetherASessionMustBeRemembered) {
  const auto asks = [](const Rule& one) { return Policy({&one}).asks_for_earlier_steps(); };
  Rule one = requiring_tls("one");
  one.steps = {Step::mail, Step::rcpt, Step::data};
  one.clients = only(1);
  one.recipients = domains({"example.com"});
  EXPECT_FALSE(asks(one));
  one.senders = domains({"example.org"});
  EXPECT_TRUE(asks(one));
  one.steps = {Step::mail};
  EXPECT_FALSE(asks(one));
  one.steps = {Step::data};
  EXPECT_TRUE(asks(one));
  one.senders = nullptr;
  EXPECT_FALSE(asks(one));
  one.helo = domains({"mail.example.org"});
  EXPECT_TRUE(asks(one));
  one.helo = nullptr;
  one.otherwise = Otherwise::mark;
  EXPECT_TRUE(asks(one));
}

TEST(Policy, TheFirstThatFitsDecides) {
  Rule other_client = requiring_tls("other client");
  other_client.clients = only(2);
  const Rule lets_pass = rule("lets pass");
  const Rule all = requiring_tls("all");
  EXPECT_EQ(decider({other_client, lets_pass, all}, somebody()), "lets pass");
  EXPECT_EQ(decider({other_client, all, lets_pass}, somebody()), "all");
  EXPECT_TRUE(decide({other_client, lets_pass, all}, somebody()).allowed());
  EXPECT_FALSE(decide({other_client, all, lets_pass}, somebody()).allowed());
  EXPECT_EQ(decider({other_client}, somebody()), "");
  EXPECT_TRUE(decide({other_client}, somebody()).allowed());
}

TEST(Policy, ARequirementThatIsMetEndsTheSearch) {
  Facts facts = somebody();
  facts.tls.version = tls12;
  Rule strict = requiring_tls("strict");
  strict.tls = Encryption::tls13;
  EXPECT_EQ(decider({requiring_tls("all"), strict}, facts), "all");
  EXPECT_TRUE(decide({requiring_tls("all"), strict}, facts).allowed());
  EXPECT_FALSE(decide({strict, requiring_tls("all")}, facts).allowed());
}

// All of the conditions, each met and not.
TEST(Rule, EveryCombinationOfConditions) {
  Facts facts = somebody();
  facts.user = "u";
  facts.tls.version = 0;
  for (unsigned given = 0; given < 32; ++given) {
    for (unsigned met = 0; met < 32; ++met) {
      Rule one = requiring_tls("one");
      const auto is = [&](unsigned set, unsigned bit) { return (set >> bit & 1) != 0; };
      if (is(given, 0)) one.clients = only(is(met, 0) ? 1 : 2);
      if (is(given, 1)) one.helo = domains({is(met, 1) ? ".example.org" : "example.org"});
      if (is(given, 2)) one.authenticated = is(met, 2);
      if (is(given, 3)) one.senders = domains({is(met, 3) ? "example.org" : "example.com"});
      if (is(given, 4)) one.recipients = domains({is(met, 4) ? "example.com" : "example.org"});
      const bool fits = (given & ~met) == 0;
      EXPECT_EQ(one.mismatch(facts) == Mismatch::none, fits) << given << " " << met;
      EXPECT_EQ(decide({one}, facts).allowed(), !fits) << given << " " << met;
    }
  }
}

TEST(Rule, NobodyIsAuthenticated) {
  Rule one = requiring_tls("one");
  one.authenticated = true;
  EXPECT_EQ(one.mismatch(somebody()), Mismatch::authenticated);
  one.authenticated = false;
  EXPECT_EQ(one.mismatch(somebody()), Mismatch::none);
}

TEST(Rule, TheNullSenderHasANameOfItsOwn) {
  Rule one = requiring_tls("one");
  Facts facts = somebody();
  facts.sender = {};
  one.senders = domains({"example.org", ".org"});
  EXPECT_EQ(one.mismatch(facts), Mismatch::sender);
  one.senders = domains({"<>"});
  EXPECT_EQ(one.mismatch(facts), Mismatch::none);
  EXPECT_EQ(one.mismatch(somebody()), Mismatch::sender);
  // <Postmaster> is in no domain.
  one = requiring_tls("one");
  one.recipients = domains({"example.com", "postmaster"});
  facts.recipient = path("Postmaster");
  EXPECT_EQ(one.mismatch(facts), Mismatch::recipient);
}

// Addresses as they come out of the parser: `sender` is what stands behind FROM:, `recipient` behind TO:.
struct Envelope {
  explicit Envelope(std::string_view sender, std::string_view recipient = "<v@loc.example>")
      : from("FROM:" + std::string(sender) + " SMTPUTF8"), to("TO:" + std::string(recipient)) {
    smtp::MailCommand mail;
    smtp::RcptCommand rcpt;
    EXPECT_EQ(smtp::parse_mail(from, smtp::ExtensionSet::all(), mail), smtp::SyntaxFault::none) << sender;
    EXPECT_EQ(smtp::parse_rcpt(to, {}, true, rcpt), smtp::SyntaxFault::none) << recipient;
    facts = somebody();
    facts.sender = mail.reverse_path;
    facts.recipient = rcpt.forward_path;
  }
  std::string from, to;
  Facts facts;
};

// What may be read as another domain's: a rule that requires something concerns it if it may be one of its
// domains; a rule lets nobody pass for it.
TEST(Rule, AmbiguousAddresses) {
  enum Is : std::uint8_t { out, in, may_be };
  struct Row {
    std::string_view address;
    Is conf;   // in conf.example and its sub-domains
    Is loc;    // in loc.example
    Is other;  // in other.example
  };
  const Row both[] = {
      {"<v@conf.example>", in, out, out},
      {"<v@a.CONF.example>", in, out, out},
      {"<v@loc.example>", out, in, out},
      {"<v+conf.example@loc.example>", out, in, out},
      {"<v=conf.example@loc.example>", out, in, out},
      {"<\"v conf.example\"@loc.example>", out, in, out},
      {"<@conf.example:v@loc.example>", out, in, out},  // the route is dropped
      {"<v%conf.example@loc.example>", may_be, may_be, out},
      {"<v%Conf.Example.@loc.example>", may_be, may_be, out},
      {"<v%b.conf.example@loc.example>", may_be, may_be, out},
      {"<\"v@conf.example\"@loc.example>", may_be, may_be, out},
      {"<\"v\\@conf.e\\xample\"@loc.example>", may_be, may_be, out},
      {"<conf.example!v@loc.example>", may_be, may_be, out},
      {"<a!conf.example!v@loc.example>", may_be, may_be, out},
      {"<a!v%conf.example%loc.example@x.example>", may_be, may_be, out},
      {"<a!v%b@loc.example>", out, may_be, out},
      {"<bounce%7@conf.example>", may_be, out, out},  // that much honest mail has
      // No list of their readings would be complete.
      {"<v%@loc.example>", may_be, may_be, may_be},
      {"<\"v@conf.ex(x)ample\"@loc.example>", may_be, may_be, may_be},
      {"<\"v@conf . example\"@loc.example>", may_be, may_be, may_be},
      {"<\"@a:v@conf.example\"@loc.example>", may_be, may_be, may_be},
      {"<\"\\\"v@conf.example\\\"\"@loc.example>", may_be, may_be, may_be},
      {"<\"\"@loc.example>", may_be, may_be, may_be},
      {"<v@conf.e\xef\xbd\x98"
       "ample>",
       may_be, may_be, may_be},  // full-width x
      {"<v%con\xef\xbd\x86.example@loc.example>", may_be, may_be, may_be},
      {"<v@m\xc3\xbcnchen.example>", out, out, out},
  };
  const Row senders[] = {
      {"<>", out, out, out},
      {"<boss>", may_be, may_be, may_be},
      {"<boss%one.example>", may_be, may_be, may_be},
      {"<one.example!boss>", may_be, may_be, may_be},
      {"<Postmaster>", may_be, may_be, may_be},
      {"<\"\">", may_be, may_be, may_be},
  };
  const std::pair<Patterns, Is Row::*> sets[] = {{{"conf.example", ".conf.example"}, &Row::conf},
                                                 {{"loc.example"}, &Row::loc},
                                                 {{"<>", "other.example"}, &Row::other}};
  std::size_t asked = 0;
  const auto ask = [&](const Facts& facts, std::string_view address,
                       std::shared_ptr<const Domains> Rule::*set, const Patterns& patterns, Is is) {
    Rule strict = requiring_tls("strict");
    strict.*set = domains(patterns);
    Rule lenient = rule("lenient");
    lenient.*set = strict.*set;
    Rule next = strict;
    next.name = "next";
    next.otherwise = Otherwise::next;
    Rule mark = strict;
    mark.otherwise = Otherwise::mark;
    const Rule last = requiring_tls("last");
    const bool concerned = is != out;
    for (const std::uint16_t version : {std::uint16_t{0}, tls12}) {
      Facts f = facts;
      f.tls.version = version;
      EXPECT_EQ(strict.mismatch(f) == Mismatch::none, concerned) << address;
      const bool decides = is == in || (concerned && version == 0);
      EXPECT_EQ(decider({strict}, f), decides ? "strict" : "") << address;
      EXPECT_EQ(decide({strict}, f).allowed(), version != 0 || !concerned) << address;
      EXPECT_EQ(decider({lenient, last}, f), is == in ? "lenient" : "last") << address;
      EXPECT_EQ(decider({next, last}, f), is == in && version != 0 ? "next" : "last") << address;
      EXPECT_EQ(decide({mark}, f).marks.size(), concerned && version == 0 ? 1U : 0U) << address;
      ++asked;
    }
  };
  for (const auto& [patterns, column] : sets) {
    for (const Row& row : both) {
      ask(Envelope(row.address).facts, row.address, &Rule::senders, patterns, row.*column);
      ask(Envelope("<>", row.address).facts, row.address, &Rule::recipients, patterns, row.*column);
    }
    for (const Row& row : senders) {
      const Is is = row.address == "<>" && column == &Row::other ? in : row.*column;
      ask(Envelope(row.address).facts, row.address, &Rule::senders, patterns, is);
    }
    ask(Envelope("<>", "<Postmaster>").facts, "<Postmaster>", &Rule::recipients, patterns, out);
  }
  EXPECT_GT(asked, 300U);
  // Only what is empty may be the null sender; and nothing is in an empty set.
  for (const auto& [sender, is] : {std::pair{"<\"\">", may_be},
                                   {"<\"\"@x.example>", may_be},
                                   {"<boss>", out},
                                   {"<a%b@x.example>", out}}) {
    ask(Envelope(sender).facts, sender, &Rule::senders, {"<>"}, is);
    ask(Envelope(sender).facts, sender, &Rule::senders, {}, out);
  }
  // A rule that names no domains is not in doubt.
  Facts facts = Envelope("<boss>", "<v%conf.example@loc.example>").facts;
  EXPECT_EQ(decider({rule("all"), requiring_tls("last")}, facts), "all");
}

// An empty set is a condition that nobody meets: a file that lost its lines must not open a door.
TEST(Rule, AnEmptySetFitsNobody) {
  Rule one = rule("lets pass");
  one.clients = std::make_shared<const Networks>();
  EXPECT_EQ(one.mismatch(somebody()), Mismatch::client);
  one = rule("lets pass");
  one.senders = domains({});
  EXPECT_EQ(one.mismatch(somebody()), Mismatch::sender);
  one = rule("pins");
  one.fingerprints = std::make_shared<const Fingerprints>();
  Facts facts = somebody();
  const Certificate certificate{
      .verified = true, .sha256 = {}, .subject = {}, .issuer = {}, .serial = {}, .sha1 = {}};
  facts.tls.version = tls13;
  facts.tls.certificate = &certificate;
  EXPECT_EQ(one.lack(facts), Lack::fingerprint);
}

// Every requirement against every kind of session.
TEST(Rule, WhatASessionLacks) {
  const Fingerprint known{1};
  const auto certificate = [](bool verified, const Fingerprint& fingerprint) {
    Certificate out;
    out.verified = verified;
    out.sha256 = fingerprint;
    return out;
  };
  const std::vector<Certificate> certificates = {certificate(false, {}), certificate(true, {}),
                                                 certificate(false, known), certificate(true, known)};
  for (const Encryption tls : {Encryption::optional, Encryption::required, Encryption::tls13}) {
    for (const ClientCertificate wanted :
         {ClientCertificate::optional, ClientCertificate::presented, ClientCertificate::verified}) {
      for (const bool pinned : {false, true}) {
        Rule one = rule("one");
        one.tls = tls;
        one.certificate = wanted;
        if (pinned) one.fingerprints = std::make_shared<const Fingerprints>(std::vector{known});
        const bool wants_certificate = pinned || wanted != ClientCertificate::optional;
        const bool wants_tls = wants_certificate || tls != Encryption::optional;
        EXPECT_EQ(one.requires_tls(), wants_tls);
        for (const std::uint16_t version : {std::uint16_t{0}, tls12, tls13}) {
          for (std::size_t c = 0; c <= certificates.size(); ++c) {
            Facts facts = somebody();
            facts.tls.version = version;
            const Certificate* const shown = c == certificates.size() ? nullptr : &certificates[c];
            facts.tls.certificate = shown;  // without TLS it must not count
            Lack expected = Lack::nothing;
            if (wants_tls && version == 0) {
              expected = Lack::tls;
            } else if (tls == Encryption::tls13 && version != tls13) {
              expected = Lack::tls13;
            } else if (wants_certificate && shown == nullptr) {
              expected = Lack::certificate;
            } else if (wanted == ClientCertificate::verified && !shown->verified) {
              expected = Lack::verification;
            } else if (pinned && shown->sha256 != known) {
              expected = Lack::fingerprint;
            }
            EXPECT_EQ(one.lack(facts), expected);
            EXPECT_EQ(decide({one}, facts).allowed(), expected == Lack::nothing);
          }
        }
      }
    }
  }
}

TEST(Rule, Replies) {
  Rule one = requiring_tls("one");
  EXPECT_EQ(decide({one}, somebody()).reply, "530 5.7.0 Must issue a STARTTLS command first\r\n");
  one.otherwise = Otherwise::tempfail;
  EXPECT_EQ(decide({one}, somebody()).reply, "451 4.7.0 Must issue a STARTTLS command first\r\n");
  one.reply = "450 4.7.1 Later\r\n";
  EXPECT_EQ(decide({one}, somebody()).reply, "450 4.7.1 Later\r\n");
  for (const Lack lack : {Lack::tls, Lack::tls13, Lack::certificate, Lack::verification, Lack::fingerprint}) {
    EXPECT_FALSE(text_of(lack).empty());
    for (const Otherwise otherwise :
         {Otherwise::refuse, Otherwise::tempfail, Otherwise::mark, Otherwise::next}) {
      Rule other = requiring_tls("other");
      other.otherwise = otherwise;
      const std::string reply(other.reply_to(lack));
      if (otherwise == Otherwise::mark || otherwise == Otherwise::next) {
        EXPECT_EQ(reply, "");
        continue;
      }
      const char code = otherwise == Otherwise::refuse ? '5' : '4';
      ASSERT_GT(reply.size(), 12U);
      EXPECT_EQ(reply[0], code);
      EXPECT_EQ(reply.substr(3, 2), std::string(" ") + code);
      EXPECT_TRUE(reply.ends_with("\r\n"));
      EXPECT_EQ(reply.find('\r'), reply.size() - 2);
    }
  }
}

// A dry run changes nothing, whether the session has what it looks for or not.
TEST(Policy, MarksDecideNothing) {
  Rule dry = requiring_tls("dry");
  dry.otherwise = Otherwise::mark;
  Rule dry13 = dry;
  dry13.name = "dry 1.3";
  dry13.tls = Encryption::tls13;
  Rule strict = rule("strict");
  strict.certificate = ClientCertificate::presented;
  const std::vector<Rule> all = {dry, dry13, strict};  // verdicts point into it
  Facts facts = somebody();
  for (const std::uint16_t version : {std::uint16_t{0}, tls12, tls13}) {
    facts.tls.version = version;
    const Verdict marked = decide(all, facts);
    const Verdict alone = decide({strict}, facts);
    EXPECT_EQ(marked.reply, alone.reply);
    EXPECT_EQ(marked.rule->name, "strict");
    EXPECT_EQ(marked.marks.size(), version == 0 ? 2U : version == tls12 ? 1U : 0U);
    if (version == tls12) {
      EXPECT_EQ(marked.marks[0].rule->name, "dry 1.3");
      EXPECT_EQ(marked.marks[0].lack, Lack::tls13);
    }
    EXPECT_TRUE(decide({dry, dry13}, facts).allowed());
    EXPECT_EQ(decide({dry, dry13}, facts).rule, nullptr);
    // Behind the one that decides nobody is asked.
    EXPECT_TRUE(decide({strict, dry}, facts).marks.empty());
  }
}

TEST(Policy, NextMakesARequirementACondition) {
  Rule tls = requiring_tls("tls");
  tls.otherwise = Otherwise::next;
  Rule strict = rule("strict");
  strict.fingerprints = std::make_shared<const Fingerprints>(std::vector{Fingerprint{1}});
  Facts facts = somebody();
  EXPECT_EQ(decider({tls, strict}, facts), "strict");
  EXPECT_TRUE(decide({tls}, facts).allowed());
  facts.tls.version = tls13;
  EXPECT_EQ(decider({tls, strict}, facts), "tls");
  EXPECT_TRUE(decide({tls, strict}, facts).allowed());
}

TEST(Rule, WhomItConcerns) {
  Rule one = requiring_tls("one");
  EXPECT_TRUE(one.unconditional());
  EXPECT_TRUE(one.concerns_all_senders());
  one.authenticated = false;
  EXPECT_FALSE(one.unconditional());
  EXPECT_TRUE(one.concerns_all_senders());
  one.authenticated = true;
  EXPECT_FALSE(one.concerns_all_senders());
  one = requiring_tls("one");
  one.clients = std::make_shared<const Networks>(
      std::vector<Network>{{ipv4(0), static_cast<std::uint8_t>(mapped_bits)}});
  EXPECT_FALSE(one.unconditional());
  EXPECT_TRUE(one.concerns_all_senders());
  one.clients = std::make_shared<const Networks>(
      std::vector<Network>{{ipv4(0), static_cast<std::uint8_t>(mapped_bits)}, {Address{}, 0}});
  EXPECT_TRUE(one.unconditional());
  one.clients = only(1);
  EXPECT_FALSE(one.concerns_all_senders());
  for (const auto set : {&Rule::helo, &Rule::senders, &Rule::recipients}) {
    Rule other = requiring_tls("other");
    other.*set = domains({"example.org"});
    EXPECT_FALSE(other.unconditional());
    EXPECT_FALSE(other.concerns_all_senders());
  }
}

// Lists of rules at random: the verdict is that of a model that goes through them by the book, and the
// explanation tells the same.
TEST(Policy, AgreesWithAModel) {
  std::mt19937_64 random(1);
  const std::vector<std::string_view> names = {"example.org", "example.com", "a.example.org"};
  std::size_t refused = 0;
  std::size_t marked = 0;
  for (int round = 0; round < 200'000; ++round) {
    std::vector<Rule> rules;
    for (std::size_t n = random() % 6; n-- > 0;) {
      Rule one = rule("r" + std::to_string(n));
      if (random() % 2 == 0) one.clients = only(static_cast<std::uint8_t>(random() % 3));
      if (random() % 3 == 0) one.helo = domains({names[random() % 3]});
      if (random() % 3 == 0) one.senders = domains({names[random() % 3]});
      if (random() % 3 == 0) one.authenticated = random() % 2 == 0;
      one.tls = static_cast<Encryption>(random() % 3);
      one.certificate = static_cast<ClientCertificate>(random() % 3);
      one.otherwise = static_cast<Otherwise>(random() % 4);
      rules.push_back(one);
    }
    Facts facts;
    const Certificate certificate{
        .verified = random() % 2 == 0, .sha256 = {}, .subject = {}, .issuer = {}, .serial = {}, .sha1 = {}};
    facts.client = ipv4(static_cast<std::uint8_t>(random() % 3));
    facts.helo = names[random() % 3];
    const std::string sender = "x@" + std::string(names[random() % 3]);
    facts.sender = path(sender);
    if (random() % 2 == 0) facts.user = "u";
    constexpr std::uint16_t versions[] = {0, tls12, tls13};
    facts.tls.version = versions[random() % 3];
    if (facts.tls.version != 0 && random() % 2 == 0) facts.tls.certificate = &certificate;

    const Rule* by = nullptr;
    bool allowed = true;
    std::vector<const Rule*> marks;
    for (const Rule& one : rules) {
      if (one.clients && !one.clients->contains(facts.client)) continue;
      if (one.helo && !one.helo->contains(facts.helo)) continue;
      if (one.senders && !one.senders->contains(facts.sender.domain)) continue;
      if (one.authenticated && *one.authenticated != !facts.user.empty()) continue;
      const bool has = (one.tls == Encryption::optional || facts.tls.version == tls13 ||
                        (one.tls == Encryption::required && facts.tls.version == tls12)) &&
                       (one.certificate == ClientCertificate::optional ||
                        (facts.tls.certificate != nullptr &&
                         (one.certificate == ClientCertificate::presented || certificate.verified)));
      if (one.otherwise == Otherwise::mark && !has) marks.push_back(&one);
      if (one.otherwise == Otherwise::mark || (one.otherwise == Otherwise::next && !has)) continue;
      by = &one;
      allowed = has;
      break;
    }
    std::vector<const Rule*> pointers;
    for (const Rule& one : rules) pointers.push_back(&one);
    const Policy policy(pointers);
    const Verdict verdict = policy.decide(Step::mail, facts);
    ASSERT_EQ(verdict.rule, by);
    ASSERT_EQ(verdict.allowed(), allowed);
    ASSERT_EQ(verdict.marks.size(), marks.size());
    for (std::size_t i = 0; i < marks.size(); ++i) ASSERT_EQ(verdict.marks[i].rule, marks[i]);

    const std::vector<Finding> told = findings(policy, Step::mail, facts);
    ASSERT_LE(told.size(), rules.size());
    for (std::size_t i = 0; i < told.size(); ++i) {
      ASSERT_EQ(told[i].rule, pointers[i]);
      ASSERT_EQ(told[i].decides, told[i].rule == by);
      ASSERT_EQ(told[i].mismatch != Mismatch::none, !text_of(told[i].mismatch).empty());
    }
    if (by != nullptr) {
      ASSERT_EQ(told.back().rule, by);
    } else {
      ASSERT_EQ(told.size(), rules.size());
    }
    refused += allowed ? 0 : 1;
    marked += marks.size();
  }
  EXPECT_GT(refused, 10'000U);
  EXPECT_GT(marked, 10'000U);
}

}  // namespace
}  // namespace ringmx::policy
