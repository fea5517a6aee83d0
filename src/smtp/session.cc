// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/session.h"

#include <algorithm>
#include <cassert>
#include <memory>

#include "ringmx/smtp/sasl.h"

// The server side of SMTP, and what it decides where the RFCs leave a choice.
//
// States. connected -> ready -> envelope -> (chunks ->) message -> ready. `envelope` holds from MAIL to
// the body; whether there are recipients is a matter of the counts, not of a state of its own, since
// with pipelining DATA can come while the upstream still thinks about every RCPT. A DATA then goes to
// the upstream, whose answer is right either way. Only where every RCPT is known to have been refused,
// by whomever, does ringmx say 554 itself, and 503 where there was none (RFC 5321 3.3). The transaction
// goes on after such a refusal, as with Postfix: another RCPT may follow.
//
// Order of judgement. The line as a line, then the verb, then the state, then the syntax: a RCPT out
// of order is 503 however it is written, and a fault in a line is a fault whatever its verb. Two
// things come even before the line: another protocol ends the session at once (a browser can be made
// to send an HTTP request with a body full of SMTP commands: ALPACA), and a BDAT.
//
// BDAT. The octets are on their way whatever is wrong with the command, and must never be read as
// commands. So each BDAT whose size can be read is answered by Action::bdat or bdat_refuse, even where
// CHUNKING is not offered; one whose size can't be read, or that is no proper line, ends the session.
// A message that lost a chunk can't be mended by the next one, so any refusal inside a transaction is
// the end of that transaction: State::failed, in which all that would go on with it is 503. MAIL may
// follow as well as RSET: after a failed DATA it may too, and clients treat both alike.
//
// Lines. RFC 5321 4.5.3.1.4 allows 512 octets; each extension may add to MAIL or RCPT. RFC 3461 gives
// no sum, but the longest parameters it allows: ENVID 100 octets and ORCPT 500, both with their
// keyword.
//
// TLS. Where it is required, 530 comes before state and syntax: what is wrong with a command that may
// not be said at all is nobody's business. Not before the faults of a line, nor for what is no command.
//
// Limits. Errors and junk commands are counted apart and start anew with each message that reached
// the upstream, as with Postfix: a session that delivers may last. 452 for too many recipients is no
// error: RFC 5321 4.5.3.1.10 has the client send what was accepted and come back with the rest. An
// empty BDAT, a repeated EHLO and a STARTTLS that comes to nothing are junk: otherwise a client could send
// them for ever. The upstream's 5xx to MAIL and RCPT are errors as well: it counts them too, but for it all
// clients are one.
//
// AUTH. The command is held to the limit of the lines that follow it, and not to 512 octets as RFC 4954
// section 4 has it: clients put tokens into it that are longer. A failure counts as an error, and towards a
// limit of its own, which is lower: who guesses passwords needs many.
//
// Replies are constants in wire form, so that deciding allocates nothing, and so that nothing of what
// the client wrote ever comes back to it (ALPACA again).

namespace ringmx::smtp {
namespace {

// What a parameter may add to a line, with the space before it.
constexpr std::size_t size_addition = 26;            // RFC 1870 section 3
constexpr std::size_t body_addition = 17;            // RFC 6152 section 2
constexpr std::size_t smtputf8_addition = 10;        // RFC 6531 section 3.1
constexpr std::size_t requiretls_addition = 11;      // RFC 8689 section 2
constexpr std::size_t auth_addition = 500;           // RFC 4954 section 3
constexpr std::size_t dsn_mail_addition = 9 + 101;   // " RET=FULL", and " " with ENVID
constexpr std::size_t dsn_rcpt_addition = 29 + 501;  // " NOTIFY=SUCCESS,FAILURE,DELAY", " " with ORCPT

std::size_t line_limit(const SessionRules& rules, ExtensionSet offered, Verb verb) noexcept {
  std::size_t limit = rules.command_line_limit;
  if (verb == Verb::mail) {
    if (offered.has(Extension::size)) limit += size_addition;
    if (offered.has(Extension::eight_bit_mime)) limit += body_addition;
    if (offered.has(Extension::smtputf8)) limit += smtputf8_addition;
    if (offered.has(Extension::requiretls)) limit += requiretls_addition;
    if (offered.has(Extension::dsn)) limit += dsn_mail_addition;
    if (offered.has(Extension::auth)) limit += auth_addition;
  } else if (verb == Verb::rcpt) {
    if (offered.has(Extension::dsn)) limit += dsn_rcpt_addition;
  } else if (verb == Verb::auth) {
    if (!rules.auth.empty()) limit = std::max(limit, sasl_line_limit);
  }
  return limit;
}

constexpr std::string_view nul_in_line = "500 5.5.2 NUL in a command\r\n";
constexpr std::string_view bare_newline_in_line = "500 5.5.2 Bare CR or LF in a command\r\n";
constexpr std::string_view unrecognized = "500 5.5.2 Command not recognized\r\n";
constexpr std::string_view not_implemented = "502 5.5.1 Command not implemented\r\n";
constexpr std::string_view hello_first = "503 5.5.1 Send HELO or EHLO first\r\n";
constexpr std::string_view nested_mail = "503 5.5.1 Nested MAIL command\r\n";
constexpr std::string_view mail_first = "503 5.5.1 Send MAIL first\r\n";
constexpr std::string_view rcpt_first = "503 5.5.1 Send RCPT first\r\n";
constexpr std::string_view in_chunks = "503 5.5.1 Only BDAT may follow BDAT\r\n";
constexpr std::string_view chunk_failed_before = "503 5.5.1 A chunk was refused, send RSET first\r\n";
constexpr std::string_view message_under_way = "503 5.5.1 The message is not over\r\n";
constexpr std::string_view no_valid_recipients = "554 5.5.1 No valid recipients\r\n";
constexpr std::string_view bad_argument = "501 5.5.4 Bad characters in the argument\r\n";
constexpr std::string_view no_argument_allowed = "501 5.5.4 No argument allowed\r\n";
constexpr std::string_view bad_hello = "501 5.5.4 Syntax: HELO or EHLO, then a host name\r\n";
constexpr std::string_view bad_mail = "501 5.5.4 Syntax: MAIL FROM:<address> [parameters]\r\n";
constexpr std::string_view bad_rcpt = "501 5.5.4 Syntax: RCPT TO:<address> [parameters]\r\n";
constexpr std::string_view bad_bdat = "501 5.5.4 Syntax: BDAT size [LAST]\r\n";
constexpr std::string_view bad_vrfy = "501 5.5.4 Syntax: VRFY address\r\n";
constexpr std::string_view bad_sender = "501 5.1.7 Bad sender address\r\n";
constexpr std::string_view bad_recipient = "501 5.1.3 Bad recipient address\r\n";
constexpr std::string_view needs_smtputf8 = "553 5.6.7 Non-ASCII address without SMTPUTF8\r\n";
constexpr std::string_view not_utf8 = "553 5.6.7 Address is not valid UTF-8\r\n";
constexpr std::string_view unsupported_parameter = "555 5.5.4 Unsupported parameter\r\n";
constexpr std::string_view bad_parameter = "501 5.5.4 Bad or repeated parameter\r\n";
constexpr std::string_view too_many_recipients = "452 4.5.3 Too many recipients\r\n";
constexpr std::string_view cannot_verify =
    "252 2.0.0 Cannot VRFY user, but will accept message and attempt delivery\r\n";
constexpr std::string_view starttls_first = "530 5.7.0 Must issue a STARTTLS command first\r\n";
constexpr std::string_view tls_active = "503 5.5.1 TLS is already active\r\n";
constexpr std::string_view bad_auth = "501 5.5.4 Syntax: AUTH mechanism [initial-response]\r\n";
constexpr std::string_view ehlo_first = "503 5.5.1 Send EHLO first\r\n";
constexpr std::string_view already_authenticated = "503 5.5.1 Already authenticated\r\n";
constexpr std::string_view auth_in_transaction = "503 5.5.1 AUTH not allowed during a mail transaction\r\n";
constexpr std::string_view unknown_mechanism = "504 5.5.4 Unrecognized authentication mechanism\r\n";
constexpr std::string_view response_too_long = "500 5.5.6 Authentication exchange line is too long\r\n";
constexpr std::string_view help = "214 2.0.0 See RFC 5321\r\n";

std::string_view fault_reply(SyntaxFault fault, std::string_view syntax, std::string_view address) noexcept {
  switch (fault) {
    case SyntaxFault::none:
      break;
    case SyntaxFault::syntax:
      return syntax;
    case SyntaxFault::address:
      return address;
    case SyntaxFault::non_ascii_address:
      return needs_smtputf8;
    case SyntaxFault::bad_utf8:
      return not_utf8;
    case SyntaxFault::unknown_parameter:
      return unsupported_parameter;
    case SyntaxFault::bad_parameter:
      return bad_parameter;
  }
  return {};
}

void answer(Decision& decision, std::string_view reply, Action action = Action::reply) noexcept {
  decision.action = action;
  decision.reply = reply;
}

bool plain_text(std::string_view s) noexcept {
  return std::all_of(s.begin(), s.end(), [](char c) { return c >= ' ' && c < 0x7f; });
}

// 5xx of our own. (RCPT, DATA and BDAT that go to the upstream have no reply yet.)
bool error(const Decision& decision) noexcept {
  return decision.reply.starts_with('5');
}

bool reached(std::uint32_t count, std::uint32_t limit) noexcept {
  return limit != 0 && count >= limit;
}

}  // namespace

std::uint32_t longest_line(const SessionRules& rules, ExtensionSet offered) noexcept {
  if (!rules.auth.empty()) offered.add(Extension::auth);
  return static_cast<std::uint32_t>(
      std::max({line_limit(rules, offered, Verb::mail), line_limit(rules, offered, Verb::rcpt),
                line_limit(rules, offered, Verb::auth)}));
}

Decision Session::decide(const Line& line, ExtensionSet offered) const noexcept {
  assert(state_ != State::message);
  const Command command =
      authenticating_ ? Command{.verb = Verb::auth, .argument = line.text} : parse_command(line.text);
  Decision decision;
  decision.verb = command.verb;
  decision.argument = command.argument;

  std::string_view line_fault;
  switch (line.fault) {
    case LineFault::none:
      if (line.text.size() + 2 > line_limit(*rules_, offered, command.verb)) {
        line_fault = replies::line_too_long;
      }
      break;
    case LineFault::too_long:
      line_fault = replies::line_too_long;
      break;
    case LineFault::nul:
      line_fault = nul_in_line;
      break;
    case LineFault::bare_cr:
    case LineFault::bare_lf:
      line_fault = bare_newline_in_line;
      break;
  }

  const bool too_long = line_fault == replies::line_too_long;
  if (command.verb == Verb::foreign) {
    answer(decision, replies::not_smtp, Action::close);
  } else if (authenticating_) {
    decision.action = Action::auth_response;
    if (!line_fault.empty()) answer(decision, too_long ? response_too_long : line_fault);
  } else if (line_fault.empty()) {
    judge(command, offered, decision);
  } else {
    answer(decision, line_fault, command.verb == Verb::bdat ? Action::close : Action::reply);
  }

  hold_to_limits(decision);
  return decision;
}

Decision Session::refuse(const Decision& decision, std::string_view reply) const noexcept {
  assert(reply.starts_with('4') || reply.starts_with('5'));
  Decision refused = decision;
  answer(refused, reply, decision.action == Action::bdat ? Action::bdat_refuse : Action::reply);
  hold_to_limits(refused);
  return refused;
}

void Session::hold_to_limits(Decision& decision) const noexcept {
  if (decision.action == Action::close) return;
  if (error(decision)) {
    const bool one_too_many = authenticating_ && reached(auth_failures_ + 1, rules_->auth_failure_limit);
    if (one_too_many || reached(errors_ + 1, rules_->error_limit)) {
      answer(decision, replies::too_many_errors, Action::close);
    }
  } else if (junk(decision) && reached(junk_commands_ + 1, rules_->junk_command_limit)) {
    answer(decision, replies::too_much_junk, Action::close);
  }
}

void Session::judge(const Command& command, ExtensionSet offered, Decision& decision) const noexcept {
  const std::string_view argument = command.argument;
  if (command.verb != Verb::bdat && barred(command.verb)) return answer(decision, starttls_first);
  switch (command.verb) {
    case Verb::helo:
    case Verb::ehlo:
      if (!valid_helo_argument(argument)) return answer(decision, bad_hello);
      decision.action = command.verb == Verb::helo ? Action::greet : Action::greet_esmtp;
      return;
    case Verb::mail:
      return judge_mail(command, offered, decision);
    case Verb::rcpt:
      return judge_rcpt(command, offered, decision);
    case Verb::bdat:
      return judge_bdat(command, offered, decision);
    case Verb::data:
      if (const std::string_view why = why_no_message(); !why.empty()) {
        return answer(decision, why);
      }
      if (state_ == State::chunks) return answer(decision, in_chunks);
      if (!argument.empty()) return answer(decision, no_argument_allowed);
      decision.action = Action::data;
      return;
    case Verb::rset:
      if (!argument.empty()) return answer(decision, no_argument_allowed);
      return answer(decision, replies::ok, Action::rset);
    case Verb::quit:
      if (!argument.empty()) return answer(decision, no_argument_allowed);
      return answer(decision, replies::bye, Action::quit);
    case Verb::noop:
      return answer(decision, plain_text(argument) ? replies::ok : bad_argument);
    case Verb::help:
      return answer(decision, plain_text(argument) ? help : bad_argument);
    case Verb::vrfy:
      if (argument.empty()) return answer(decision, bad_vrfy);
      return answer(decision, plain_text(argument) ? cannot_verify : bad_argument);
    case Verb::starttls:
      if (secured_) return answer(decision, tls_active);
      if (rules_->starttls == StartTls::off) return answer(decision, not_implemented);
      if (!argument.empty()) return answer(decision, no_argument_allowed);
      return answer(decision, replies::ready_for_tls, Action::starttls);
    case Verb::auth:
      return judge_auth(command, decision);
    case Verb::expn:
    case Verb::etrn:
    case Verb::turn:
    case Verb::xclient:
    case Verb::xforward:
      return answer(decision, not_implemented);
    case Verb::unknown:
    case Verb::foreign:
      break;
  }
  answer(decision, unrecognized);
}

void Session::judge_mail(const Command& command, ExtensionSet offered, Decision& decision) const noexcept {
  if (state_ == State::connected) return answer(decision, hello_first);
  if (rules_->auth_required && !authenticated_) return answer(decision, replies::authentication_required);
  if (in_transaction()) return answer(decision, nested_mail);
  const SyntaxFault fault = parse_mail(command.argument, offered, decision.mail);
  if (fault != SyntaxFault::none) return answer(decision, fault_reply(fault, bad_mail, bad_sender));
  if (rules_->message_size_limit != 0 && decision.mail.size > rules_->message_size_limit) {
    return answer(decision, replies::message_too_big);
  }
  answer(decision, replies::ok, Action::mail);
}

void Session::judge_rcpt(const Command& command, ExtensionSet offered, Decision& decision) const noexcept {
  switch (state_) {
    case State::envelope:
      break;
    case State::chunks:
      return answer(decision, in_chunks);
    case State::failed:
      return answer(decision, chunk_failed_before);
    case State::message:
      return answer(decision, message_under_way);
    default:
      return answer(decision, mail_first);
  }
  RcptCommand& rcpt = *std::construct_at(&decision.rcpt);
  const SyntaxFault fault = parse_rcpt(command.argument, offered, smtputf8_, rcpt);
  if (fault != SyntaxFault::none) return answer(decision, fault_reply(fault, bad_rcpt, bad_recipient));
  if (reached(recipients_accepted_ + recipients_pending_, rules_->recipient_limit)) {
    return answer(decision, too_many_recipients);
  }
  decision.action = Action::rcpt;
}

void Session::judge_bdat(const Command& command, ExtensionSet offered, Decision& decision) const noexcept {
  BdatCommand& bdat = *std::construct_at(&decision.bdat);
  const SyntaxFault fault = parse_bdat(command.argument, bdat);
  if (fault == SyntaxFault::syntax) return answer(decision, bad_bdat, Action::close);
  std::string_view refusal = why_no_message();
  if (barred(Verb::bdat)) {
    refusal = starttls_first;
  } else if (!offered.has(Extension::chunking)) {
    refusal = not_implemented;
  } else if (refusal.empty() && fault != SyntaxFault::none) {
    refusal = bad_bdat;
  }
  answer(decision, refusal, refusal.empty() ? Action::bdat : Action::bdat_refuse);
}

void Session::judge_auth(const Command& command, Decision& decision) const noexcept {
  if (rules_->auth.empty()) return answer(decision, not_implemented);
  if (!esmtp_) return answer(decision, ehlo_first);
  if (authenticated_) return answer(decision, already_authenticated);
  if (in_transaction()) return answer(decision, auth_in_transaction);
  AuthCommand& auth = *std::construct_at(&decision.auth);
  if (parse_auth(command.argument, auth) != SyntaxFault::none) return answer(decision, bad_auth);
  const auto mechanism = parse_mechanism(auth.mechanism);
  if (!mechanism || !mechanisms().has(*mechanism)) return answer(decision, unknown_mechanism);
  decision.mechanism = *mechanism;
  decision.action = Action::auth;
}

MechanismSet Session::mechanisms() const noexcept {
  if (barred(Verb::auth)) return {};
  MechanismSet out = rules_->auth;
  if (!certificate_verified_) out.remove(Mechanism::external);
  return out;
}

// May not be said before TLS.
bool Session::barred(Verb verb) const noexcept {
  if (secured_) return false;
  if (rules_->starttls == StartTls::required_for_auth) return verb == Verb::auth;
  if (rules_->starttls != StartTls::required) return false;
  switch (verb) {
    case Verb::helo:
    case Verb::ehlo:
    case Verb::starttls:
    case Verb::noop:
    case Verb::rset:
    case Verb::help:
    case Verb::quit:
    case Verb::unknown:
    case Verb::foreign:
      return false;
    default:
      return true;
  }
}

// Why a message can't begin or go on; empty if it can.
std::string_view Session::why_no_message() const noexcept {
  switch (state_) {
    case State::connected:
    case State::ready:
      return mail_first;
    case State::envelope:
    case State::chunks:  // the last recipient may have been refused in the meantime
      if (recipients_accepted_ + recipients_pending_ > 0) return {};
      return recipient_refused_ ? no_valid_recipients : rcpt_first;
    case State::failed:
      return chunk_failed_before;
    case State::message:
      return message_under_way;
  }
  return {};
}

bool Session::junk(const Decision& decision) const noexcept {
  switch (decision.verb) {
    case Verb::noop:
    case Verb::rset:
    case Verb::vrfy:
    case Verb::help:
      return true;
    case Verb::helo:
    case Verb::ehlo:
      return greeted();
    case Verb::starttls:
      return decision.action == Action::reply;  // the owner will not have it now
    case Verb::bdat:
      return decision.action == Action::bdat && decision.bdat.size == 0 && !decision.bdat.last;
    default:
      return false;
  }
}

void Session::apply(const Decision& decision) noexcept {
  if (error(decision)) {
    ++errors_;
    if (authenticating_) ++auth_failures_;
  } else if (junk(decision)) {
    ++junk_commands_;
  }
  authenticating_ = decision.action == Action::auth || decision.action == Action::auth_response;
  switch (decision.action) {
    case Action::greet:
    case Action::greet_esmtp:
      reset(State::ready);
      esmtp_ = decision.action == Action::greet_esmtp;
      break;
    case Action::mail:
      reset(State::envelope);
      smtputf8_ = decision.mail.smtputf8;
      break;
    case Action::rcpt:
      ++recipients_pending_;
      break;
    case Action::data:
      state_ = State::message;
      break;
    case Action::bdat:
      state_ = decision.bdat.last ? State::message : State::chunks;
      break;
    case Action::bdat_refuse:
      if (in_transaction()) state_ = State::failed;
      break;
    case Action::rset:
      reset(greeted() ? State::ready : State::connected);
      break;
    case Action::reply:
      if (decision.verb == Verb::rcpt && state_ == State::envelope) recipient_refused_ = true;
      break;
    case Action::auth:
    case Action::auth_response:
    case Action::starttls:
    case Action::quit:
    case Action::close:
      break;
  }
}

void Session::tls_started(bool certificate_verified) noexcept {
  assert(recipients_pending_ == 0);
  reset(State::connected);
  secured_ = true;
  esmtp_ = false;
  certificate_verified_ = certificate_verified;
  authenticating_ = false;
  authenticated_ = false;
}

void Session::authenticated() noexcept {
  assert(authenticating_);
  authenticating_ = false;
  authenticated_ = true;
}

void Session::reset(State state) noexcept {
  state_ = state;
  recipients_accepted_ = 0;
  recipients_pending_ = 0;
  recipient_refused_ = false;
}

void Session::recipient_replied(bool accepted) noexcept {
  assert(recipients_pending_ > 0);
  --recipients_pending_;
  if (accepted) {
    ++recipients_accepted_;
  } else {
    recipient_refused_ = true;
  }
}

bool Session::refused_by_upstream() noexcept {
  return reached(++errors_, rules_->error_limit);
}

void Session::transaction_ended() noexcept {
  if (state_ == State::message && recipients_accepted_ > 0) {
    errors_ = 0;
    junk_commands_ = 0;
  }
  reset(greeted() ? State::ready : State::connected);
}

void Session::chunk_accepted() noexcept {
  assert(state_ == State::chunks);
}

void Session::chunk_failed() noexcept {
  assert(state_ == State::chunks || state_ == State::message);
  state_ = State::failed;
}

}  // namespace ringmx::smtp
