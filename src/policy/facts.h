// SPDX-License-Identifier: GPL-3.0-or-later
// What a decision about a session can rest on. Plain types; whoever asks owns the text.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "ringmx/smtp/command.h"

namespace ringmx::policy {

// A client's address in network byte order, IPv4 as ::ffff:a.b.c.d: one kind of address, one kind of network.
using Address = std::array<std::uint8_t, 16>;
[[nodiscard]] std::string text_of(const Address& address);  // "192.0.2.1", "2001:db8::1" (RFC 5952)

// A local part without its quotes and backslashes, as mail servers keep it and Postfix tells it.
[[nodiscard]] std::string unquoted(std::string_view local_part);

// When a decision is made, in the order of a session. rcpt: at each RCPT; data: at DATA or the first BDAT.
enum class Step : std::uint8_t { connect, auth, mail, rcpt, data };
inline constexpr std::size_t step_count = 5;
constexpr std::string_view name_of(Step step) noexcept {
  constexpr std::array<std::string_view, step_count> names = {"connect", "auth", "mail", "rcpt", "data"};
  return names[static_cast<std::size_t>(step)];
}

using Fingerprint = std::array<std::uint8_t, 32>;  // SHA-256 of the DER

// What the client presented in the handshake.
struct Certificate {
  bool verified = false;
  Fingerprint sha256{};
  std::string_view subject = {};  // RFC 4514
  std::string_view issuer = {};
  std::string_view serial = {};  // upper case hexadecimal, as is sha1
  std::string_view sha1 = {};
  std::string_view der = {};
};

struct Tls {
  std::uint16_t version = 0;  // as on the wire: 0x0303, 0x0304; 0: clear text, and nothing else here counts
  bool resumed = false;
  std::string_view protocol;  // "TLSv1.3"
  std::string_view suite;     // IANA's name
  std::string_view group;
  const Certificate* certificate = nullptr;  // null: none
};

// What a step does not know yet is empty.
struct Facts {
  std::string_view listener;
  Address client{};
  std::uint16_t client_port = 0;
  Address server{};  // where it connected to
  std::uint16_t server_port = 0;
  std::string_view helo;
  bool esmtp = false;
  std::string_view user;       // who the client is, since AUTH; empty: nobody
  std::string_view mechanism;  // of AUTH: "PLAIN"
  Tls tls;
  smtp::Path sender;               // from MAIL on
  std::string_view mail_argument;  // "FROM:<a@b> SIZE=100"
  std::uint64_t size = 0;          // SIZE= of MAIL
  smtp::Path recipient;  // at rcpt; at data if a policy server is asked there, and it is the only one
  std::string_view rcpt_argument;  // "TO:<c@d>"
  std::uint32_t recipients = 0;    // accepted so far
};

}  // namespace ringmx::policy
