// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/rules.h"

#include <algorithm>

namespace ringmx::policy {
namespace {

constexpr std::uint16_t tls13 = 0x0304;

// 530 is RFC 3207's own reply; what STARTTLS alone would not mend is told by 550, with X.7.10 where it is a
// matter of encryption (RFC 5248).
constexpr std::string_view refusal(Lack lack) noexcept {
  switch (lack) {
    case Lack::nothing:
      break;
    case Lack::tls:
      return "530 5.7.0 Must issue a STARTTLS command first\r\n";
    case Lack::tls13:
      return "550 5.7.10 TLS 1.3 is required\r\n";
    case Lack::certificate:
      return "550 5.7.0 A client certificate is required\r\n";
    case Lack::verification:
      return "550 5.7.0 The client certificate could not be verified\r\n";
    case Lack::fingerprint:
      return "550 5.7.0 The client certificate is not one of those expected\r\n";
  }
  return {};
}

constexpr std::string_view deferral(Lack lack) noexcept {
  switch (lack) {
    case Lack::nothing:
      break;
    case Lack::tls:
      return "451 4.7.0 Must issue a STARTTLS command first\r\n";
    case Lack::tls13:
      return "451 4.7.10 TLS 1.3 is required\r\n";
    case Lack::certificate:
      return "451 4.7.0 A client certificate is required\r\n";
    case Lack::verification:
      return "451 4.7.0 The client certificate could not be verified\r\n";
    case Lack::fingerprint:
      return "451 4.7.0 The client certificate is not one of those expected\r\n";
  }
  return {};
}

constexpr bool is_letter_or_digit(char c) noexcept {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

// An ambiguous address may be in a set if that has one of the domains which may be read out of it: what
// stands between two of "%", "!" and "@" in the local part. Whoever looks there reads it as an address of its
// own, so where more than atoms and dots are in it (comments, spaces, source routes, quotes within quotes),
// where a domain is lacking, or could be folded to another, no list of readings is complete: any domain may
// be meant.
[[gnu::cold, gnu::noinline]] bool may_be_among(const Domains& domains, const smtp::Path& path) {
  constexpr std::string_view routing = "%!@";
  constexpr std::string_view atoms = "#$&'*+-/=?^_`{|}~.";
  const std::string local = unquoted(path.local_part);
  const std::size_t nulls = domains.contains("<>") ? 1 : 0;
  const bool any = domains.size() > nulls;
  if (local.empty()) return nulls > 0 || any;
  const auto plain = [&](char c) {
    return is_letter_or_digit(c) || atoms.find(c) != atoms.npos || routing.find(c) != routing.npos;
  };
  const bool eight_bit =
      std::any_of(path.domain.begin(), path.domain.end(), [](char c) { return (c & 0x80) != 0; });
  if (path.domain.empty() || eight_bit || !std::all_of(local.begin(), local.end(), plain)) return any;
  for (std::size_t from = 0; from <= local.size();) {
    const std::size_t to = std::min(local.find_first_of(routing, from), local.size());
    const std::string_view reading = std::string_view(local).substr(from, to - from);
    // An empty one is no domain, or the server's own.
    if (reading.empty() ? any : domains.contains(reading)) return true;
    from = to + 1;
  }
  return false;
}

// The null sender, and a <Postmaster> without a domain, are in a set only as "<>".
[[gnu::always_inline]] inline bool among(const Domains& domains, const smtp::Path& path) noexcept {
  return domains.contains(path.mailbox.empty() ? "<>" : path.domain) ||
         (path.ambiguous && may_be_among(domains, path));
}

// Inlined where rules are gone through: every step of every session waits for that.
[[gnu::always_inline]] inline Mismatch mismatch_of(const Rule& rule, const Facts& facts) noexcept {
  if (rule.authenticated && *rule.authenticated == facts.user.empty()) return Mismatch::authenticated;
  if (rule.clients && !rule.clients->contains(facts.client)) return Mismatch::client;
  if (rule.helo && !rule.helo->contains(facts.helo)) return Mismatch::helo;
  if (rule.senders && !among(*rule.senders, facts.sender)) return Mismatch::sender;
  if (rule.recipients && !among(*rule.recipients, facts.recipient)) return Mismatch::recipient;
  return Mismatch::none;
}

}  // namespace

Mismatch Rule::mismatch(const Facts& facts) const noexcept {
  return mismatch_of(*this, facts);
}

Lack Rule::lack(const Facts& facts) const noexcept {
  const Tls& session = facts.tls;
  if (!requires_tls()) return Lack::nothing;
  if (session.version == 0) return Lack::tls;
  if (tls == Encryption::tls13 && session.version < tls13) return Lack::tls13;
  if (certificate == ClientCertificate::optional && !fingerprints) return Lack::nothing;
  if (session.certificate == nullptr) return Lack::certificate;
  if (certificate == ClientCertificate::verified && !session.certificate->verified) return Lack::verification;
  if (fingerprints && !fingerprints->contains(session.certificate->sha256)) return Lack::fingerprint;
  return Lack::nothing;
}

std::string_view Rule::reply_to(Lack lack) const noexcept {
  if (lack == Lack::nothing || otherwise == Otherwise::mark || otherwise == Otherwise::next) return {};
  if (!reply.empty()) return reply;
  return otherwise == Otherwise::refuse ? refusal(lack) : deferral(lack);
}

bool Rule::requires_tls() const noexcept {
  return tls != Encryption::optional || certificate != ClientCertificate::optional || fingerprints;
}

bool Rule::unconditional() const noexcept {
  return (!clients || (clients->all_ipv4() && clients->all_ipv6())) && !helo && !authenticated && !senders &&
         !recipients;
}

bool Rule::concerns_all_senders() const noexcept {
  return (!clients || clients->all_ipv4() || clients->all_ipv6()) && !helo &&
         !authenticated.value_or(false) && !senders && !recipients;
}

Policy::Policy(const std::vector<const Rule*>& rules) {
  for (const Rule* rule : rules) {
    for (std::size_t step = 0; step < step_count; ++step) {
      if (!rule->steps.has(static_cast<Step>(step))) continue;
      rules_[step].push_back(rule);
      const bool told = rule->otherwise == Otherwise::mark;  // with its HELO and sender
      if (told || rule->helo || (rule->senders && static_cast<Step>(step) > Step::mail))
        asks_for_earlier_steps_ = true;
    }
  }
}

Verdict Policy::decide(Step step, const Facts& facts) const noexcept {
  Verdict verdict;
  for (const Rule* rule : rules_at(step)) {
    if (mismatch_of(*rule, facts) != Mismatch::none) continue;
    const Lack lack = rule->lack(facts);
    if (rule->otherwise == Otherwise::mark) {
      if (lack != Lack::nothing) verdict.marks.push_back({rule, lack});
      continue;
    }
    if (lack != Lack::nothing && rule->otherwise == Otherwise::next) continue;
    if (lack == Lack::nothing && rule->in_doubt(facts)) continue;
    verdict.rule = rule;
    verdict.lack = lack;
    verdict.reply = rule->reply_to(lack);
    break;
  }
  return verdict;
}

}  // namespace ringmx::policy
