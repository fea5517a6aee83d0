// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/delegation.h"

#include <algorithm>
#include <array>

#include "policy/reply_code.h"
#include "policy/tls_names.h"
#include "smtp/ascii.h"

// The attributes are Postfix's, in its order. What ringmx does not know is empty, as it is there: it has no
// queue, resolves no names (client_name is "unknown"), and sees no ETRN.
//
// Addresses are as Postfix keeps them, without the quotes and backslashes of their local parts, so that
// "c\eo"@example.net is no other mailbox to a policy server than ceo@example.net.
//
// The actions are those of access(5). ringmx passes a message on while it comes and keeps nothing of it, so
// it can't do what is done to a message in a queue. Those that only tell something (PREPEND, WARN, INFO) are
// passed over, with a remark. Those that change where the message goes, or whether (HOLD, DISCARD, FILTER,
// REDIRECT, BCC), are answered as Postfix answers what it can't do, 451 4.3.5, with a remark: to let the
// message through would be the opposite of what was asked for.

namespace ringmx::policy {

namespace {

using smtp::equal_ignoring_case;
using Verdict = Answer::Verdict;

void append_attribute(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append("=");
  for (const char c : value) out += c == '\n' || c == '\r' || c == '\0' ? '?' : c;
  out += '\n';
}

std::string internal_form(const smtp::Path& path) {
  std::string out = unquoted(path.local_part);
  if (!path.domain.empty()) out.append("@").append(path.domain);
  return out;
}

// RFC 3461 section 4, as Postfix writes what is from a certificate.
std::string xtext(std::string_view text) {
  constexpr std::string_view hex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto octet = static_cast<unsigned char>(c);
    if (octet > ' ' && octet < 0x7f && c != '+' && c != '=') {
      out += c;
    } else {
      out.append(1, '+').append(1, hex[octet >> 4]).append(1, hex[octet & 15]);
    }
  }
  return out;
}

std::string colon_separated(const Fingerprint& fingerprint) {
  constexpr std::string_view hex = "0123456789ABCDEF";
  std::string out;
  for (const std::uint8_t octet : fingerprint)
    out.append(out.empty() ? 0 : 1, ':').append(1, hex[octet >> 4]).append(1, hex[octet & 15]);
  return out;
}

std::string_view state_of(Step step) noexcept {
  constexpr std::array<std::string_view, step_count> names = {"CONNECT", "AUTH", "MAIL", "RCPT", "DATA"};
  return names[static_cast<std::size_t>(step)];
}

std::string_view trimmed(std::string_view s) noexcept {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

// Takes a word off the front of `text`.
std::string_view take_word(std::string_view& text) noexcept {
  const std::string_view word = text.substr(0, text.find_first_of(" \t"));
  text = trimmed(text.substr(word.size()));
  return word;
}

// `code`, a status code, and why: the text may begin with a status code of its own.
Answer refusal(Verdict verdict, std::string_view code, std::string_view text, std::string_view default_text) {
  Answer answer;
  answer.verdict = verdict;
  answer.closes = code == "421" || code == "521";  // as Postfix has it
  std::string_view rest = text;
  std::string_view status = take_word(rest);
  if (!is_status_code(status) || status.front() != code.front()) {
    status = code.front() == '4' ? "4.7.1" : "5.7.1";
    rest = text;
  }
  answer.reply = make_reply(std::string(code).append(" ").append(status), rest.empty() ? default_text : rest);
  if (answer.reply.empty()) answer.reply = replies::service_confused;
  return answer;
}

enum class Kind : std::uint8_t { permit, dunno, reject, defer, defer_if_permit, defer_if_reject, tell, deal };
struct Action {
  std::string_view word;
  Kind kind;
};
constexpr std::array<Action, 15> actions{{
    {"OK", Kind::permit},
    {"PERMIT", Kind::permit},
    {"DUNNO", Kind::dunno},
    {"REJECT", Kind::reject},
    {"DEFER", Kind::defer},
    {"DEFER_IF_PERMIT", Kind::defer_if_permit},
    {"DEFER_IF_REJECT", Kind::defer_if_reject},
    {"PREPEND", Kind::tell},
    {"WARN", Kind::tell},
    {"INFO", Kind::tell},
    {"HOLD", Kind::deal},
    {"DISCARD", Kind::deal},
    {"FILTER", Kind::deal},
    {"REDIRECT", Kind::deal},
    {"BCC", Kind::deal},
}};

}  // namespace

std::string Delegation::request(const Question& question) const {
  const Facts& facts = question.facts;
  const auto port = [](std::uint16_t n) { return n == 0 ? std::string() : std::to_string(n); };
  const bool message = question.step == Step::data;
  std::string out;
  append_attribute(out, "request", "smtpd_access_policy");
  append_attribute(out, "protocol_state", state_of(question.step));
  append_attribute(out, "protocol_name", facts.esmtp ? "ESMTP" : "SMTP");
  append_attribute(out, "client_address", text_of(facts.client));
  append_attribute(out, "client_name", "unknown");
  append_attribute(out, "client_port", port(facts.client_port));
  append_attribute(out, "reverse_client_name", "unknown");
  append_attribute(out, "server_address", text_of(facts.server));
  append_attribute(out, "server_port", port(facts.server_port));
  append_attribute(out, "helo_name", facts.helo);
  append_attribute(out, "sender", internal_form(facts.sender));
  append_attribute(out, "recipient", internal_form(facts.recipient));
  append_attribute(out, "recipient_count", std::to_string(message ? facts.recipients : 0));
  append_attribute(out, "queue_id", "");
  append_attribute(out, "instance", question.instance);
  append_attribute(out, "size", std::to_string(facts.size));
  append_attribute(out, "etrn_domain", "");
  append_attribute(out, "stress", "");
  append_attribute(out, "sasl_method", facts.mechanism);
  append_attribute(out, "sasl_username", facts.user);
  append_attribute(out, "sasl_sender", "");
  const Certificate* certificate = facts.tls.certificate;
  const bool trusted = certificate != nullptr && certificate->verified;
  append_attribute(out, "ccert_subject", trusted ? xtext(common_name(certificate->subject)) : "");
  append_attribute(out, "ccert_issuer", trusted ? xtext(common_name(certificate->issuer)) : "");
  append_attribute(out, "ccert_fingerprint",
                   certificate != nullptr ? colon_separated(certificate->sha256) : "");
  append_attribute(out, "ccert_pubkey_fingerprint", "");
  append_attribute(out, "encryption_protocol", facts.tls.version != 0 ? facts.tls.protocol : "");
  append_attribute(out, "encryption_cipher", openssl_name(facts.tls.version != 0 ? facts.tls.suite : ""));
  append_attribute(out, "encryption_keysize",
                   std::to_string(facts.tls.version != 0 ? key_bits(facts.tls.suite) : 0));
  append_attribute(out, "policy_context", facts.listener);
  return out += '\n';
}

std::unique_ptr<AnswerReader> Delegation::reader() const {
  return std::make_unique<DelegationReader>();
}

AnswerReader::State DelegationReader::feed(std::string_view& input) {
  while (!input.empty() && state_ == State::reading) {
    const char c = input.front();
    input.remove_prefix(1);
    if (++size_ > longest_response) return fail("more than 16 KiB of attributes");
    if (ends_line(c, "a control character in an attribute")) end_of_line();
  }
  return state_;
}

AnswerReader::State DelegationReader::end_of_line() {
  constexpr std::string_view action = "action=";
  if (line_.empty()) {
    if (!action_read_) return fail("no action in the response");
    line_ = {};
    return state_ = State::done;
  }
  const std::string_view line = line_;
  if (line.find('=') == line.npos || line.starts_with('=')) return fail("a line that is no attribute");
  if (line.starts_with(action)) {
    if (action_read_) return fail("two actions in one response");
    action_read_ = true;
    answer_ = interpret_action(line.substr(action.size()));
  }
  line_.clear();
  return state_;
}

Answer interpret_action(std::string_view action) {
  std::string_view text = trimmed(action);
  const std::string_view word = take_word(text);
  Answer permitted;
  permitted.permits = true;
  const auto remarked = [&](Verdict verdict, std::string_view what) {
    Answer answer;
    answer.verdict = verdict;
    if (verdict == Verdict::refuse) answer.reply = replies::not_done_here;
    answer.remark = std::string(what).append(": ").append(printable(trimmed(action)));
    return answer;
  };
  if (is_refusal_code(word)) return refusal(Verdict::refuse, word, text, "Access denied");
  // access(5): any other number alone is OK, for address-based relay authorization.
  if (!word.empty() && text.empty() && std::all_of(word.begin(), word.end(), is_digit)) return permitted;
  const auto* const known = std::find_if(actions.begin(), actions.end(),
                                         [&](const Action& a) { return equal_ignoring_case(a.word, word); });
  if (known == actions.end()) return remarked(Verdict::refuse, "an action that is not known here");
  switch (known->kind) {
    case Kind::permit:
      return permitted;
    case Kind::dunno:
      return {};
    case Kind::reject:
      return refusal(Verdict::refuse, "554", text, "Access denied");
    case Kind::defer:
      return refusal(Verdict::refuse, "450", text, "Access denied, try again later");
    case Kind::defer_if_permit:
      return refusal(Verdict::defer_if_permit, "450", text, "Access denied, try again later");
    case Kind::defer_if_reject:
      return refusal(Verdict::defer_if_reject, "450", text, "Access denied, try again later");
    case Kind::tell:
      return remarked(Verdict::allow, "passed over");
    case Kind::deal:
      return remarked(Verdict::refuse, "can't be done by a gateway that keeps no mail");
  }
  return {};
}

}  // namespace ringmx::policy
