// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "ringmx/smtp/body.h"
#include "ringmx/smtp/capabilities.h"
#include "ringmx/smtp/command.h"
#include "ringmx/smtp/line.h"

namespace ringmx::smtp {

// What one listener demands of its sessions; shared by all of them, immutable.
struct SessionRules {
  std::uint64_t message_size_limit = 0;  // octets; 0: none
  std::uint32_t recipient_limit =
      1000;  // RCPT commands per transaction that may be accepted (RFC 5321 4.5.3.1.8)
  std::uint32_t command_line_limit = 512;  // bytes with CRLF; extensions add to it (RFC 5321 4.5.3.1.4)
  std::uint32_t error_limit = 20;          // after so many 5xx of our own: 421 and close
  std::uint32_t junk_command_limit =
      100;                         // NOOP, RSET, VRFY, HELP without a message in between: 421 and close
  bool bare_lf_ends_line = false;  // lenient command lines
};

// The longest line that any command of a session may have under `rules` when `offered` is offered:
// what a LineReader needs. Session::decide() then holds each verb to its own limit.
[[nodiscard]] std::uint32_t longest_line(const SessionRules& rules, ExtensionSet offered) noexcept;

// What the gateway has to do about a line.
enum class Action : std::uint8_t {
  reply,        // send `reply`, nothing else
  greet,        // HELO: send the HELO reply of this host; a transaction, if any, is dropped
  greet_esmtp,  // EHLO: send the EHLO reply of this host; likewise
  mail,         // send `reply` (250); a transaction begins with `mail`
  rcpt,         // the upstream is to be asked about `rcpt`; its reply is the reply
  data,         // the upstream is to be asked; the body follows its 354
  bdat,         // `bdat.size` octets follow; the upstream's reply is the reply
  bdat_refuse,  // `bdat.size` octets follow and are to be dropped; then send `reply`
  rset,         // send `reply` (250); drop the transaction
  quit,         // send `reply` (221) and close
  close,        // send `reply` (421, 554) and close
};

struct Decision {
  Action action = Action::reply;
  Verb verb = Verb::unknown;
  std::string_view reply;  // wire form, static storage; empty where the action says who replies
  union {                  // by action: mail, rcpt, bdat and bdat_refuse
    MailCommand mail;
    RcptCommand rcpt;
    BdatCommand bdat;
  };
  Decision() noexcept : mail() {}
};

// The server side of one SMTP session (RFC 5321 4.1.4, 4.3) as pure state: lines in, decisions out.
// It does no I/O, allocates nothing and knows no clock. The owner asks decide() what a line means,
// acts on it, and tells apply(), in this order, so that a line may be decided again if the owner
// had to wait in between.
class Session {
 public:
  explicit Session(const SessionRules& rules) noexcept : rules_(&rules) {}

  // What `line` means now. `offered`: what the last EHLO reply offered, or would. Points into the
  // line. Changes nothing.
  [[nodiscard]] Decision decide(const Line& line, ExtensionSet offered) const noexcept;
  // The owner acts on `decision`.
  void apply(const Decision& decision) noexcept;

  // The upstream's word on the oldest RCPT that has none yet.
  void recipient_replied(bool accepted) noexcept;
  // The upstream refused DATA, or the message is over (accepted, refused or failed): back to the
  // state after EHLO.
  void transaction_ended() noexcept;
  // The upstream accepted a BDAT that was not the last: further chunks may come. (A refused one
  // ends with chunk_failed(): all but RSET, MAIL.. is answered 503 until the transaction is reset;
  // RFC 3030 section 2.)
  void chunk_accepted() noexcept;
  void chunk_failed() noexcept;

  [[nodiscard]] bool greeted() const noexcept;         // HELO or EHLO was accepted
  [[nodiscard]] bool esmtp() const noexcept;           // the last greeting was EHLO
  [[nodiscard]] bool in_transaction() const noexcept;  // MAIL was accepted
  [[nodiscard]] std::uint32_t recipients_accepted() const noexcept;
  [[nodiscard]] std::uint32_t recipients_pending() const noexcept;  // asked, not answered

 private:
  // filled in by the implementer
  const SessionRules* rules_;
};

// Replies that the gateway itself must give; wire form.
namespace replies {
inline constexpr std::string_view ok = "250 2.0.0 Ok\r\n";
inline constexpr std::string_view bye = "221 2.0.0 Bye\r\n";
inline constexpr std::string_view start_mail_input = "354 End data with <CR><LF>.<CR><LF>\r\n";
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
inline constexpr std::string_view upstream_lost =
    "451 4.4.2 Lost the mail server behind this gateway, try again later\r\n";
inline constexpr std::string_view upstream_timeout =
    "451 4.4.2 The mail server behind this gateway is too slow, try again later\r\n";
inline constexpr std::string_view upstream_confused =
    "451 4.3.0 The mail server behind this gateway gave no valid answer, try again later\r\n";
inline constexpr std::string_view message_too_big = "552 5.3.4 Message size exceeds the limit\r\n";
inline constexpr std::string_view bare_newline = "550 5.6.11 Bare CR or LF not allowed in a message\r\n";
inline constexpr std::string_view nul_in_message = "550 5.6.11 NUL not allowed in a message\r\n";
}  // namespace replies

}  // namespace ringmx::smtp
