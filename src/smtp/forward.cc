// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/forward.h"

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace ringmx::smtp {

void append_mail_command(std::string& out, std::string_view mailbox, std::string_view parameters,
                         ExtensionSet upstream) {
  absl::StrAppend(&out, "MAIL FROM:<", mailbox, ">");
  while (!parameters.empty()) {
    const std::size_t end = std::min(parameters.find(' '), parameters.size());
    const std::string_view parameter = parameters.substr(0, end);
    parameters.remove_prefix(std::min(end + 1, parameters.size()));
    if (parameter.empty()) continue;
    if (!upstream.has(Extension::size) && absl::StartsWithIgnoreCase(parameter, "SIZE=")) continue;
    if (!upstream.has(Extension::eight_bit_mime) && absl::StartsWithIgnoreCase(parameter, "BODY=")) continue;
    absl::StrAppend(&out, " ", parameter);
  }
  out += "\r\n";
}

void append_rcpt_command(std::string& out, std::string_view mailbox, std::string_view parameters) {
  absl::StrAppend(&out, "RCPT TO:<", mailbox, ">", parameters.empty() ? "" : " ", parameters, "\r\n");
}

void append_bdat_command(std::string& out, std::uint64_t size, bool last) {
  absl::StrAppend(&out, "BDAT ", size, last ? " LAST\r\n" : "\r\n");
}

}  // namespace ringmx::smtp
