// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "ringmx/smtp/capabilities.h"

namespace ringmx::smtp {

enum class Verb : std::uint8_t {
  unknown,  // no SMTP verb at all
  helo,
  ehlo,
  mail,
  rcpt,
  data,
  bdat,
  rset,
  noop,
  quit,
  vrfy,
  help,
  starttls,
  expn,
  auth,
  etrn,
  turn,
  xclient,
  xforward,  // known, never done here: "not implemented"
  foreign,   // another protocol's line: an HTTP method, a header field, a TLS record (ALPACA)
};
inline constexpr std::size_t verb_count = static_cast<std::size_t>(Verb::foreign) + 1;

// Lower-case name for a metric's label: "helo", ..., "unknown", "foreign".
[[nodiscard]] std::string_view verb_name(Verb v) noexcept;

struct Command {
  Verb verb = Verb::unknown;
  std::string_view
      argument;  // what follows the verb and one or more spaces, trailing spaces and tabs removed
};

// Splits a line (without CRLF) into verb and argument; the verb in any case (RFC 5321 2.4).
[[nodiscard]] Command parse_command(std::string_view line) noexcept;

// A Reverse-path or Forward-path (RFC 5321 4.1.2), a source route already dropped (appendix C).
struct Path {
  std::string_view mailbox;     // local-part@domain as the client wrote it, without <>; empty for "<>"
  std::string_view local_part;  // quotes included
  std::string_view domain;      // empty for "<>" and "<Postmaster>"
  // The server that gets it may read another domain than the one that is written, or another sender: the
  // local part has a route of its own in it ("%", "!" or "@", quoted or not) or is empty, a sender has no
  // domain, or the domain has letters that may be folded to ASCII, or to nothing.
  bool ambiguous = false;
};

enum class BodyType : std::uint8_t { unstated, seven_bit, eight_bit_mime };

enum class SyntaxFault : std::uint8_t {
  none,
  syntax,             // 501 5.5.4
  address,            // 501 5.1.7 (sender) / 5.1.3 (recipient): no valid path
  non_ascii_address,  // 553 5.6.7: 8-bit address without SMTPUTF8
  bad_utf8,           // 553 5.6.7: an address with SMTPUTF8 that is not UTF-8
  unknown_parameter,  // 555 5.5.4: a parameter of an extension that is not offered
  bad_parameter,      // 501 5.5.4: an offered parameter with an impossible value, or twice
};

struct MailCommand {
  Path reverse_path;
  std::string_view parameters;  // as written, without leading or trailing space; "" if none
  std::uint64_t size = 0;       // SIZE=, 0 if not stated (RFC 1870)
  BodyType body = BodyType::unstated;
  bool smtputf8 = false;
  bool requiretls = false;  // RFC 8689
};

struct RcptCommand {
  Path forward_path;
  std::string_view parameters;  // as written
};

struct BdatCommand {
  std::uint64_t size = 0;
  bool last = false;
};

struct AuthCommand {
  std::string_view mechanism;  // as written
  // Base64, or "=" for no octets; nothing if the server is to begin (RFC 4954 section 4).
  std::optional<std::string_view> initial_response;
};

// The grammar of one command's argument. `offered`: parameters of extensions outside it are
// unknown_parameter. Nothing is allocated; the results point into `argument`.
//   MAIL: "FROM:" path [SP parameters]; a space behind the colon is allowed, as Postfix does.
//         SIZE (1 to 20 digits), BODY=7BIT|8BITMIME, SMTPUTF8, REQUIRETLS, RET=FULL|HDRS,
//         ENVID=xtext, AUTH=xtext|<>.
//   RCPT: "TO:" path; NOTIFY=, ORCPT=addr-type;xtext. `smtputf8`: the transaction said SMTPUTF8.
//   BDAT: chunk-size [SP "LAST"]; at most 20 digits that fit 63 bits. The octets follow whatever we
//         think of the command, so the fault says whether they can be counted: bad_parameter if
//         out.size is known and only what stands behind it is wrong, syntax if there is no size.
[[nodiscard]] SyntaxFault parse_mail(std::string_view argument, ExtensionSet offered,
                                     MailCommand& out) noexcept;
[[nodiscard]] SyntaxFault parse_rcpt(std::string_view argument, ExtensionSet offered, bool smtputf8,
                                     RcptCommand& out) noexcept;
[[nodiscard]] SyntaxFault parse_bdat(std::string_view argument, BdatCommand& out) noexcept;
//   AUTH: mechanism [SP initial-response].
[[nodiscard]] SyntaxFault parse_auth(std::string_view argument, AuthCommand& out) noexcept;
// HELO/EHLO: a domain or an address literal; other printable text without spaces is let pass, as
// MXes must (RFC 5321 4.1.4); empty, control or 8-bit characters are not.
[[nodiscard]] bool valid_helo_argument(std::string_view argument) noexcept;

}  // namespace ringmx::smtp
