// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "ringmx/smtp/capabilities.h"

namespace ringmx::smtp {

// What a relay says to the upstream in the client's name, and what it may promise to the client.

// The extensions that end at each hop: a relay that speaks them itself may offer them whatever the
// upstream does. All others (8BITMIME, SMTPUTF8, DSN, ENHANCEDSTATUSCODES) are promises about the
// message's whole way, and only as good as the upstream's.
inline constexpr ExtensionSet hop_by_hop{static_cast<std::uint16_t>(
    static_cast<std::uint16_t>(Extension::pipelining) | static_cast<std::uint16_t>(Extension::size) |
    static_cast<std::uint16_t>(Extension::chunking) | static_cast<std::uint16_t>(Extension::starttls) |
    static_cast<std::uint16_t>(Extension::auth))};

// Appends "MAIL FROM:<mailbox> parameters\r\n". The parameters pass as the client wrote them, but
// for SIZE and BODY, which are left out if the upstream does not offer their extension: both only
// announce what is coming (RFC 1870, RFC 6152), and an upstream without them would refuse the mail. AUTH says
// who has submitted the message first, which no client is trusted to know: it becomes "AUTH=<>" if the client
// is authenticated to the upstream (Extension::auth), and is else left out (RFC 4954 section 5).
void append_mail_command(std::string& out, std::string_view mailbox, std::string_view parameters,
                         ExtensionSet upstream);
// Appends "RCPT TO:<mailbox> parameters\r\n".
void append_rcpt_command(std::string& out, std::string_view mailbox, std::string_view parameters);
// Appends "XCLIENT LOGIN=user\r\n", the user as xtext (Postfix's XCLIENT_README, RFC 3461 section 4).
void append_xclient_login(std::string& out, std::string_view user);
// Appends "BDAT size[ LAST]\r\n" (RFC 3030).
void append_bdat_command(std::string& out, std::uint64_t size, bool last);

}  // namespace ringmx::smtp
