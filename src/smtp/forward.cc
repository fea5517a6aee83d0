// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/forward.h"

#include <algorithm>

#include "smtp/ascii.h"

namespace ringmx::smtp {

void append_mail_command(std::string& out, std::string_view mailbox, std::string_view parameters,
                         ExtensionSet upstream) {
  out.append("MAIL FROM:<").append(mailbox).append(">");
  while (!parameters.empty()) {
    const std::size_t end = std::min(parameters.find(' '), parameters.size());
    const std::string_view parameter = parameters.substr(0, end);
    parameters.remove_prefix(std::min(end + 1, parameters.size()));
    if (parameter.empty()) continue;
    if (!upstream.has(Extension::size) && equal_ignoring_case(parameter.substr(0, 5), "SIZE=")) continue;
    if (!upstream.has(Extension::eight_bit_mime) && equal_ignoring_case(parameter.substr(0, 5), "BODY="))
      continue;
    if (equal_ignoring_case(parameter.substr(0, 5), "AUTH=")) {
      if (upstream.has(Extension::auth)) out.append(" AUTH=<>");
      continue;
    }
    out.append(" ").append(parameter);
  }
  out += "\r\n";
}

void append_rcpt_command(std::string& out, std::string_view mailbox, std::string_view parameters) {
  out.append("RCPT TO:<")
      .append(mailbox)
      .append(parameters.empty() ? ">" : "> ")
      .append(parameters)
      .append("\r\n");
}

void append_xclient_login(std::string& out, std::string_view user) {
  constexpr std::string_view hex = "0123456789ABCDEF";
  out += "XCLIENT LOGIN=";
  for (const char c : user) {
    const auto octet = static_cast<unsigned char>(c);
    if (octet > ' ' && octet < 0x7f && c != '+' && c != '=') {
      out += c;
    } else {
      out.append(1, '+').append(1, hex[octet >> 4]).append(1, hex[octet & 15]);
    }
  }
  out += "\r\n";
}

void append_bdat_command(std::string& out, std::uint64_t size, bool last) {
  out.append("BDAT ").append(std::to_string(size)).append(last ? " LAST\r\n" : "\r\n");
}

}  // namespace ringmx::smtp
