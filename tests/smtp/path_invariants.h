// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "ringmx/smtp/command.h"

namespace ringmx::smtp {

// What every accepted path must be, whatever the grammar let pass: empty if all is well, else what is
// wrong. Written without a look at the parser's own tables.
inline std::string wrong_with(const Path& path, bool sender) {
  const std::string_view mailbox = path.mailbox;
  bool in_quotes = false;
  for (std::size_t i = 0; i < mailbox.size(); ++i) {
    const char c = mailbox[i];
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) return "control character";
    if (in_quotes && c == '\\') {
      ++i;
    } else if (c == '"') {
      in_quotes = !in_quotes;
    } else if (!in_quotes && (c == ' ' || c == '<' || c == '>')) {
      return "unquoted space or angle bracket";
    }
  }
  if (in_quotes) return "open quotes";
  std::string whole(path.local_part);
  if (!path.domain.empty()) whole.append("@").append(path.domain);
  if (whole != mailbox) return "parts do not make up the mailbox";
  if (mailbox.size() > 254 || path.domain.size() > 255) return "too long";

  // What is hidden in a local part, as long as no letters but ASCII's are in the domain.
  const auto has = [&](char c) { return path.local_part.find(c) != path.local_part.npos; };
  const bool no_domain = sender && path.domain.empty() && !mailbox.empty();
  const bool hides = has('%') || has('!') || has('@') || path.local_part == "\"\"" || no_domain;
  const bool ascii =
      std::all_of(path.domain.begin(), path.domain.end(), [](char c) { return (c & 0x80) == 0; });
  if (ascii ? path.ambiguous != hides : hides && !path.ambiguous) return "not as ambiguous as it is";

  // It reads the same when ringmx has put it into brackets.
  const std::string again = (sender ? "FROM:<" : "TO:<") + whole + (sender ? "> SMTPUTF8" : ">");
  MailCommand mail;
  RcptCommand rcpt;
  const SyntaxFault fault = sender ? parse_mail(again, ExtensionSet::all(), mail)
                                   : parse_rcpt(again, ExtensionSet::all(), true, rcpt);
  const Path& second = sender ? mail.reverse_path : rcpt.forward_path;
  if (fault != SyntaxFault::none) return "is refused the second time";
  if (second.mailbox != mailbox || second.local_part != path.local_part || second.domain != path.domain ||
      second.ambiguous != path.ambiguous) {
    return "reads otherwise the second time";
  }
  return {};
}

}  // namespace ringmx::smtp
