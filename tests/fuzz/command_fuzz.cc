// SPDX-License-Identifier: GPL-3.0-or-later
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "../smtp/path_invariants.h"
#include "ringmx/smtp/session.h"

// A session of arbitrary lines, with an upstream that says arbitrary things in between. Input:
// three octets that choose what is offered, the limits and the rules of TLS, then lines, each ended by LF;
// its first octet says what the upstream does before it and whether the line is a faulty one.

namespace {

using namespace ringmx::smtp;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

void check(const Decision& decision, const Session& session, const SessionRules& rules,
           std::string_view line) {
  const std::string_view reply = decision.reply;
  require(reply.empty() || (reply.size() > 6 && reply.ends_with("\r\n")), "a reply is a line");
  const auto within = [line](std::string_view piece) {
    return piece.empty() ||
           (piece.data() >= line.data() && piece.data() + piece.size() <= line.data() + line.size());
  };
  const bool clear_text_will_do = session.secured() || rules.starttls != StartTls::required;
  switch (decision.action) {
    case Action::mail:
      require(clear_text_will_do, "MAIL before TLS");
      require(within(decision.mail.reverse_path.mailbox) && within(decision.mail.parameters),
              "points into the line");
      require(wrong_with(decision.mail.reverse_path, true).empty(), "sender");
      require(session.greeted() && !session.in_transaction(), "MAIL out of order");
      break;
    case Action::rcpt:
      require(within(decision.rcpt.forward_path.mailbox) && within(decision.rcpt.parameters),
              "points into the line");
      require(wrong_with(decision.rcpt.forward_path, false).empty(), "recipient");
      require(!decision.rcpt.forward_path.mailbox.empty(), "RCPT TO:<>");
      require(session.in_transaction(), "RCPT out of order");
      break;
    case Action::data:
    case Action::bdat:
      require(session.in_transaction(), "a message out of order");
      require(session.recipients_accepted() + session.recipients_pending() > 0, "a message for nobody");
      break;
    case Action::starttls:
      require(!session.secured() && rules.starttls != StartTls::off, "STARTTLS out of order");
      break;
    case Action::bdat_refuse:
      require(!reply.empty(), "a refusal says why");
      break;
    case Action::auth:
      require(clear_text_will_do && (session.secured() || rules.starttls != StartTls::required_for_auth),
              "AUTH before TLS");
      require(session.esmtp() && !session.in_transaction(), "AUTH out of order");
      require(session.mechanisms().has(decision.mechanism), "AUTH by what is not offered");
      require(within(decision.auth.initial_response.value_or(std::string_view())), "points into the line");
      break;
    case Action::auth_response:
      require(within(decision.argument), "points into the line");
      break;
    default:
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) return 0;
  std::string_view input(reinterpret_cast<const char*>(data), size);
  ExtensionSet offered(static_cast<std::uint16_t>(data[0] & 0x7f));
  if ((data[0] & 0x80) != 0) offered.add(Extension::auth);
  const std::uint32_t choices = data[1];
  const SessionRules rules{
      .message_size_limit = (choices & 1U) != 0 ? 1000U : 0U,
      .recipient_limit = choices >> 1 & 3U,
      .error_limit = choices >> 3 & 7U,
      .junk_command_limit = choices >> 6,
      .starttls = static_cast<StartTls>(data[2] % 4),
      .auth = (data[2] & 4U) != 0 ? MechanismSet{Mechanism::plain, Mechanism::external} : MechanismSet(),
      .auth_failure_limit = data[2] >> 3 & 3U};
  input.remove_prefix(3);
  Session session(rules);
  while (!input.empty()) {
    const std::size_t end = input.find('\n');
    std::string_view text = input.substr(0, end);
    input.remove_prefix(end == input.npos ? input.size() : end + 1);
    const unsigned choice = text.empty() ? 0 : static_cast<unsigned char>(text.front());
    if (!text.empty()) text.remove_prefix(1);
    if ((choice & 1U) != 0 && session.recipients_pending() > 0) session.recipient_replied((choice & 2U) != 0);

    const Line line{text, static_cast<LineFault>(choice > 0xfb ? choice - 0xfb : 0)};
    const Decision decision = session.decide(line, offered);
    const Decision again = session.decide(line, offered);
    require(decision.action == again.action && decision.reply.data() == again.reply.data(),
            "decides twice alike");
    if (line.fault == LineFault::none && text.size() + 2 > longest_line(rules, offered)) {
      require(decision.reply == replies::line_too_long || decision.action == Action::close, "long line");
    }
    check(decision, session, rules, text);
    if (decision.action == Action::close || decision.action == Action::quit) return 0;
    while (decision.action == Action::starttls && session.recipients_pending() > 0) {
      session.recipient_replied((choice & 2U) != 0);
    }
    session.apply(decision);
    if (decision.action == Action::auth_response) {
      if ((choice & 8U) != 0) {
        session.authenticated();
      } else if ((choice & 16U) != 0) {
        const Decision refused = session.refuse(decision, replies::bad_credentials);
        session.apply(refused);
        if (refused.action == Action::close) return 0;
      }
    }
    if (decision.action == Action::starttls) {
      session.tls_started((choice & 32U) != 0);
      require(session.secured() && !session.greeted() && !session.in_transaction(), "TLS forgets");
    }
    if (decision.action == Action::data || (decision.action == Action::bdat && decision.bdat.last)) {
      session.transaction_ended();
    } else if (decision.action == Action::bdat && (choice & 4U) != 0) {
      session.chunk_failed();
    }
  }
  return 0;
}
