// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "ringmx/smtp/body.h"
#include "ringmx/smtp/capabilities.h"
#include "ringmx/smtp/command.h"
#include "ringmx/smtp/line.h"
#include "ringmx/smtp/mechanism.h"

namespace ringmx::smtp {

// RFC 3207. required: without TLS nothing but greetings, STARTTLS itself, and what harms nobody.
// required_for_auth: without TLS no AUTH, and all else.
enum class StartTls : std::uint8_t { off, optional, required, required_for_auth };

// What one listener demands of its sessions; shared by all of them, immutable. A limit on recipients,
// errors or junk commands of 0 is none.
struct SessionRules {
  std::uint64_t message_size_limit = 0;  // octets; 0: none
  std::uint32_t recipient_limit =
      1000;  // RCPT commands per transaction that may be accepted (RFC 5321 4.5.3.1.8)
  std::uint32_t command_line_limit = 512;  // bytes with CRLF; extensions add to it (RFC 5321 4.5.3.1.4)
  // So many 5xx of our own without a message in between: the last of them becomes 421 and close.
  std::uint32_t error_limit = 20;
  // Likewise for NOOP, RSET, VRFY, HELP, a second HELO or EHLO, and an empty BDAT.
  std::uint32_t junk_command_limit = 100;
  bool bare_lf_ends_line = false;  // lenient command lines
  StartTls starttls = StartTls::off;
  MechanismSet auth = {};                // what clients may authenticate by; empty: there is no AUTH
  std::uint32_t auth_failure_limit = 3;  // so many failed authentications: likewise 421 and close
  bool auth_required = false;            // for MAIL (RFC 4954 section 4: 530)
};

// The longest line that any command of a session may have under `rules` when `offered` is offered:
// what a LineReader needs. Session::decide() then holds each verb to its own limit.
[[nodiscard]] std::uint32_t longest_line(const SessionRules& rules, ExtensionSet offered) noexcept;

// What the gateway has to do about a line.
enum class Action : std::uint8_t {
  reply,          // send `reply`, nothing else
  greet,          // HELO: send the HELO reply of this host; a transaction, if any, is dropped
  greet_esmtp,    // EHLO: send the EHLO reply of this host; likewise
  mail,           // send `reply` (250); a transaction begins with `mail`
  rcpt,           // the upstream is to be asked about `rcpt`; its reply is the reply
  data,           // the upstream is to be asked; the body follows its 354
  bdat,           // `bdat.size` octets follow; the upstream's reply is the reply
  bdat_refuse,    // `bdat.size` octets follow and are to be dropped; then send `reply`. A transaction, if
                  // any, has failed with it (see chunk_failed()): its message lacks a chunk for good
  rset,           // send `reply` (250); drop the transaction
  auth,           // an exchange begins with `auth`, whose mechanism is one of mechanisms(); see below
  auth_response,  // `argument` is the client's response, word for word
  starttls,       // nothing of the client's may be here already; send `reply` (220), shake hands, then
                  // tls_started(); a transaction, if any, is dropped
  quit,           // send `reply` (221) and close
  close,          // send `reply` (421; 501 for a BDAT of unknown length) and close
};

struct Decision {
  Action action = Action::reply;
  Verb verb = Verb::unknown;
  std::string_view argument;  // of the command, as it was written
  std::string_view reply;     // wire form, static storage; empty where the action says who replies
  Mechanism mechanism = Mechanism::plain;  // of auth
  union {                                  // by action: mail, rcpt, bdat and bdat_refuse, auth
    MailCommand mail;
    RcptCommand rcpt;
    BdatCommand bdat;
    AuthCommand auth;
  };
  Decision() noexcept : mail() {}
};

// The server side of one SMTP session (RFC 5321 4.1.4, 4.3) as pure state: lines in, decisions out.
// It does no I/O, allocates nothing and knows no clock. The owner asks decide() what a line means,
// acts on it, and tells apply(), in this order, so that a line may be decided again if the owner
// had to wait in between.
//
// AUTH (RFC 4954). From apply() of an auth on, each line is a response of the client: Action::auth_response,
// or a reply to a line that can be none, which ends the exchange. The owner ends it otherwise: by
// authenticated(), or by apply() of what refuse() makes of an auth or auth_response.
class Session {
 public:
  explicit Session(const SessionRules& rules) noexcept : rules_(&rules) {}

  // What `line` means now. `offered`: what the last EHLO reply offered, or would. Points into the
  // line. Changes nothing. Not to be asked while a message is on its way, from apply() of a data or
  // of the last bdat to transaction_ended(): what follows may be message, not command.
  [[nodiscard]] Decision decide(const Line& line, ExtensionSet offered) const noexcept;
  // `decision`, mail, rcpt, data, bdat, auth, auth_response or starttls, if the owner will not have it:
  // `reply` (4xx or 5xx, wire form; it must outlive the act) instead. A 5xx counts as an error like others,
  // and the last one that may be is 421. The octets of a BDAT are consumed all the same.
  [[nodiscard]] Decision refuse(const Decision& decision, std::string_view reply) const noexcept;
  // The owner acts on `decision`. One that ends or begins a transaction (greet.., mail, rset,
  // starttls) may have to wait for the recipients_pending(): their replies would be taken for those of the
  // next.
  void apply(const Decision& decision) noexcept;

  // The handshake is done, after a starttls or at once (implicit TLS). All that was learnt in clear
  // text is forgotten (RFC 3207 section 4.2), but errors and junk stay counted: a client could else
  // make its limits anew. `certificate_verified`: the client has shown who it is, and may say so by EXTERNAL.
  // Requires recipients_pending() == 0.
  void tls_started(bool certificate_verified = false) noexcept;

  // The exchange that is under way has told who the client is. That holds until TLS starts.
  void authenticated() noexcept;

  // The upstream's word on the oldest RCPT that has none yet. Requires recipients_pending() > 0.
  void recipient_replied(bool accepted) noexcept;
  // With 5xx, to that RCPT or to its MAIL: an error as others. True: one too many; the session is to end with
  // replies::too_many_errors instead.
  [[nodiscard]] bool refused_by_upstream() noexcept;
  // The upstream refused DATA, or the message is over (accepted, refused or failed): back to the
  // state after EHLO.
  void transaction_ended() noexcept;
  // The upstream accepted a BDAT that was not the last: further chunks may come. (A refused one
  // ends with chunk_failed(): the transaction is over, and RCPT, DATA and the chunks that may be on
  // their way already get 503 until RSET, MAIL, HELO or EHLO; RFC 3030 section 2.)
  void chunk_accepted() noexcept;
  void chunk_failed() noexcept;

  [[nodiscard]] bool secured() const noexcept { return secured_; }
  // The next line is a response.
  [[nodiscard]] bool authenticating() const noexcept { return authenticating_; }
  // What the client may authenticate by now, as far as the session knows.
  [[nodiscard]] MechanismSet mechanisms() const noexcept;
  // HELO or EHLO was accepted.
  [[nodiscard]] bool greeted() const noexcept { return state_ != State::connected; }
  // The last greeting was EHLO.
  [[nodiscard]] bool esmtp() const noexcept { return esmtp_; }
  // MAIL was accepted, and its transaction has neither ended nor failed.
  [[nodiscard]] bool in_transaction() const noexcept {
    return state_ == State::envelope || state_ == State::chunks || state_ == State::message;
  }
  [[nodiscard]] std::uint32_t recipients_accepted() const noexcept { return recipients_accepted_; }
  // A BDAT was accepted, and not the last one.
  [[nodiscard]] bool between_chunks() const noexcept { return state_ == State::chunks; }
  // Asked, not answered.
  [[nodiscard]] std::uint32_t recipients_pending() const noexcept { return recipients_pending_; }

 private:
  enum class State : std::uint8_t {
    connected,  // no HELO or EHLO yet
    ready,      // no transaction
    envelope,   // MAIL was accepted
    chunks,     // a BDAT was, and not the last
    failed,     // a BDAT was refused
    message,    // DATA or the last BDAT was accepted, and the upstream's last word is not in
  };
  void judge(const Command& command, ExtensionSet offered, Decision& decision) const noexcept;
  void judge_mail(const Command& command, ExtensionSet offered, Decision& decision) const noexcept;
  void judge_rcpt(const Command& command, ExtensionSet offered, Decision& decision) const noexcept;
  void judge_bdat(const Command& command, ExtensionSet offered, Decision& decision) const noexcept;
  void judge_auth(const Command& command, Decision& decision) const noexcept;
  [[nodiscard]] bool barred(Verb verb) const noexcept;
  [[nodiscard]] std::string_view why_no_message() const noexcept;
  [[nodiscard]] bool junk(const Decision& decision) const noexcept;
  void hold_to_limits(Decision& decision) const noexcept;
  void reset(State state) noexcept;

  const SessionRules* rules_;
  std::uint32_t recipients_accepted_ = 0;
  std::uint32_t recipients_pending_ = 0;
  std::uint32_t errors_ = 0;
  std::uint32_t junk_commands_ = 0;
  std::uint32_t auth_failures_ = 0;
  State state_ = State::connected;
  bool secured_ = false;  // by TLS
  bool esmtp_ = false;
  bool certificate_verified_ = false;
  bool authenticating_ = false;  // the next line is a response
  bool authenticated_ = false;
  bool smtputf8_ = false;           // MAIL of this transaction said so
  bool recipient_refused_ = false;  // one was, in this transaction
};

// Replies that the gateway itself must give, or may want to recognise; wire form.
namespace replies {
inline constexpr std::string_view ok = "250 2.0.0 Ok\r\n";
inline constexpr std::string_view bye = "221 2.0.0 Bye\r\n";
inline constexpr std::string_view ready_for_tls = "220 2.0.0 Ready to start TLS\r\n";
inline constexpr std::string_view too_many_handshakes =
    "454 4.7.0 TLS not available: too many handshakes from your network, try again later\r\n";
inline constexpr std::string_view authenticated = "235 2.7.0 Authentication successful\r\n";
inline constexpr std::string_view authentication_required = "530 5.7.0 Authentication required\r\n";
inline constexpr std::string_view bad_credentials = "535 5.7.8 Authentication credentials invalid\r\n";
inline constexpr std::string_view shutting_down =
    "421 4.3.2 Service shutting down, closing transmission channel\r\n";
inline constexpr std::string_view too_many_connections =
    "421 4.7.0 Too many connections, try again later\r\n";
inline constexpr std::string_view command_timeout =
    "421 4.4.2 Timeout exceeded, closing transmission channel\r\n";
inline constexpr std::string_view too_slow = "421 4.4.2 Data too slow, closing transmission channel\r\n";
inline constexpr std::string_view synchronization = "554 5.5.0 SMTP protocol synchronization error\r\n";
inline constexpr std::string_view no_upstream =
    "451 4.4.1 No mail server available behind this gateway, try again later\r\n";
inline constexpr std::string_view no_upstream_with_tls =
    "451 4.7.30 No mail server that supports REQUIRETLS available behind this gateway, try again later\r\n";
inline constexpr std::string_view upstream_lost =
    "451 4.4.2 Lost the mail server behind this gateway, try again later\r\n";
inline constexpr std::string_view upstream_timeout =
    "451 4.4.2 The mail server behind this gateway is too slow, try again later\r\n";
inline constexpr std::string_view upstream_confused =
    "451 4.3.0 The mail server behind this gateway gave no valid answer, try again later\r\n";
inline constexpr std::string_view congested =
    "421 4.4.5 Too much waits for the mail server behind this gateway, try again later\r\n";
inline constexpr std::string_view message_too_big = "552 5.3.4 Message size exceeds the limit\r\n";
inline constexpr std::string_view bare_newline = "550 5.6.11 Bare CR or LF not allowed in a message\r\n";
inline constexpr std::string_view line_too_long = "500 5.5.2 Line too long\r\n";
inline constexpr std::string_view too_many_errors =
    "421 4.7.0 Too many errors, closing transmission channel\r\n";
inline constexpr std::string_view too_much_junk =
    "421 4.7.0 Too many commands without a message, closing transmission channel\r\n";
inline constexpr std::string_view not_smtp = "421 4.7.0 That is not SMTP, closing transmission channel\r\n";
inline constexpr std::string_view nul_in_message = "550 5.6.11 NUL not allowed in a message\r\n";
}  // namespace replies

}  // namespace ringmx::smtp
