// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/script.h"

#include <algorithm>
#include <cassert>

namespace ringmx::load {

using smtp::Stage;

Script::Fault Script::received(std::string_view input) {
  while (!input.empty() && !over_) {
    Stage stage{};
    smtp::Reply reply;
    std::size_t consumed = 0;
    switch (dialogue_.next(input, stage, reply, consumed)) {
      case smtp::Dialogue::Event::need_more:
        input = {};
        continue;
      case smtp::Dialogue::Event::fault:
        return Fault::bad_reply;
      case smtp::Dialogue::Event::unsolicited:
        if (reply.code != 421) return Fault::unsolicited;
        over_ = true;  // a session at rest may be ended by the server at any time
        owner_.dismissed(std::nullopt, reply);
        continue;
      case smtp::Dialogue::Event::reply: {
        // What stands behind the last reply that was due can't answer what is only said now.
        const bool surplus = dialogue_.outstanding() == 0 && consumed < input.size();
        handle(stage, reply);
        if (surplus && (dialogue_.outstanding() > 0 || tls_due_)) return Fault::unsolicited;
        break;
      }
    }
    input.remove_prefix(consumed);
  }
  if (tls_due_ && !over_) {
    tls_due_ = false;
    owner_.start_tls();
  }
  // Only now: what the owner says next must not meet the rest of this input.
  if (became_ready_ && !over_) {
    became_ready_ = false;
    owner_.ready();
  }
  return Fault::none;
}

void Script::hello(std::string_view verb, Stage stage) {
  std::string line(verb);
  mail_.append_helo(line, session_);
  line += "\r\n";
  dialogue_.expect(stage);
  owner_.say(line);
}

void Script::tls_started() {
  secured_ = true;
  capabilities_ = {};
  hello("EHLO ", Stage::ehlo);
}

void Script::refused(Stage stage, const smtp::Reply& reply) noexcept {
  if (outcome_.code != 0) return;  // the first refusal is the reason, what follows are its consequences
  outcome_.stage = stage;
  outcome_.code = reply.code;
}

void Script::handle(Stage stage, const smtp::Reply& reply) {
  owner_.replied(stage, reply);
  const bool hello_refused = (stage == Stage::greeting || stage == Stage::helo) && !reply.positive();
  const bool ehlo_refused = stage == Stage::ehlo && !reply.positive() && !reply.permanent();
  const bool tls_refused = stage == Stage::starttls && !reply.positive();
  if (stage != Stage::quit && (reply.code == 421 || hello_refused || ehlo_refused || tls_refused)) {
    over_ = true;
    if (sending_) {
      outcome_.code = 0;
      refused(stage, reply);
      end_message(false);
    }
    return owner_.dismissed(stage, reply);
  }
  switch (stage) {
    case Stage::greeting:
      return hello("EHLO ", Stage::ehlo);
    case Stage::ehlo:
      if (!reply.positive()) return hello("HELO ", Stage::helo);
      capabilities_ = smtp::parse_ehlo_reply(reply.text);
      if (lacks_starttls() && capabilities_.extensions.has(smtp::Extension::starttls)) {
        dialogue_.expect(Stage::starttls);
        return owner_.say("STARTTLS\r\n");
      }
      became_ready_ = true;
      return;
    case Stage::helo:
    case Stage::rset:
      became_ready_ = true;
      return;
    case Stage::starttls:
      tls_due_ = true;
      return;
    case Stage::quit:
      over_ = true;
      return owner_.said_bye();
    case Stage::xclient:  // never said here
    case Stage::auth:
      return;
    case Stage::mail:
      mail_accepted_ = reply.positive();
      if (!mail_accepted_) refused(stage, reply);
      break;
    case Stage::rcpt:
      if (reply.positive()) ++outcome_.recipients;
      // Some refused recipients are no refused message; all of them are.
      if (recipients_said_ == mail_.recipients() && outcome_.recipients == 0 &&
          !(waiting() && this->stage() == Stage::rcpt)) {
        refused(stage, reply);
      }
      break;
    case Stage::data:
      go_ahead_ = reply.intermediate();
      if (!go_ahead_) refused(stage, reply);
      break;
    case Stage::bdat:
      if (!reply.positive()) refused(stage, reply);
      break;
    case Stage::message:
      answered_ = true;
      if (!reply.positive()) refused(stage, reply);
      break;
  }
  if (sending_ && dialogue_.outstanding() == 0) proceed();
}

void Script::begin(const Message& message) {
  assert(!sending_ && dialogue_.outstanding() == 0);
  message_ = message;
  outcome_ = {};
  octets_said_ = 0;
  recipients_said_ = 0;
  mail_said_ = mail_accepted_ = data_said_ = go_ahead_ = answered_ = false;
  sending_ = true;
  speak();
}

// All that was said is answered.
void Script::proceed() {
  if (answered_) return end_message(outcome_.code == 0);
  if (go_ahead_) {
    go_ahead_ = false;
    dialogue_.expect(Stage::message);
    // A server that takes DATA without a recipient has to be sent an empty message (RFC 2920 3.1).
    if (outcome_.code == 0) owner_.say_message(message_, 0, message_.size, smtp::Framing::dot);
    return owner_.say(".\r\n");
  }
  if (outcome_.code != 0) return end_message(false);
  speak();
}

void Script::speak() {
  const bool group = manners_.pipelining == Manners::Pipelining::always ||
                     (manners_.pipelining == Manners::Pipelining::offered &&
                      capabilities_.extensions.has(smtp::Extension::pipelining));
  std::string commands;
  do {
    if (!mail_said_) {
      mail_said_ = true;
      commands += "MAIL FROM:<";
      mail_.append_sender(commands, message_);
      commands += ">";
      if (capabilities_.extensions.has(smtp::Extension::size)) {
        commands += " SIZE=";
        append_number(commands, message_.size);
      }
      commands += "\r\n";
      dialogue_.expect(Stage::mail);
    } else if (recipients_said_ < mail_.recipients()) {
      commands += "RCPT TO:<";
      mail_.append_recipient(commands, message_, recipients_said_++);
      commands += ">\r\n";
      dialogue_.expect(Stage::rcpt);
    } else if (manners_.bdat) {
      say_chunk(commands);
    } else {
      data_said_ = true;
      commands += "DATA\r\n";
      dialogue_.expect(Stage::data);
    }
  } while (group && !data_said_ && !dialogue_.full());
  if (!commands.empty()) owner_.say(commands);
}

void Script::say_chunk(std::string& commands) {
  const std::uint64_t rest = message_.size - octets_said_;
  const std::uint64_t n = manners_.chunk_size == 0 ? rest : std::min(rest, manners_.chunk_size);
  data_said_ = n == rest;
  commands += "BDAT ";
  append_number(commands, n);
  commands += data_said_ ? " LAST\r\n" : "\r\n";
  dialogue_.expect(data_said_ ? Stage::message : Stage::bdat);
  owner_.say(commands);
  commands.clear();
  owner_.say_message(message_, octets_said_, octets_said_ + n, smtp::Framing::octets);
  octets_said_ += n;
}

void Script::end_message(bool accepted) {
  sending_ = false;
  outcome_.accepted = accepted;
  // What the server has not ended itself, it still has open. (After a refused BDAT: RFC 3030 section 2.)
  const bool open = mail_accepted_ && !over_ && !accepted && (!answered_ || manners_.bdat);
  owner_.message_ended(outcome_);
  if (open) {
    dialogue_.expect(Stage::rset);
    owner_.say("RSET\r\n");
  } else {
    became_ready_ = true;
  }
}

void Script::quit() {
  dialogue_.expect(Stage::quit);
  owner_.say("QUIT\r\n");
}

}  // namespace ringmx::load
