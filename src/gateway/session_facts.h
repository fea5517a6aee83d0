// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "policy/facts.h"
#include "ringmx/smtp/session.h"
#include "tls/connection.h"

namespace ringmx::gateway {

// What a session has said about itself, for whoever decides what it may. A policy::Facts is made of it, and
// of the line at hand, when a decision is due; what nobody will ask for is not kept.
class SessionFacts {
 public:
  // Asks the socket for its addresses. False: the client has gone already, and nobody can say any more what
  // it may. `remembers`: somebody asks for HELO, or at RCPT or DATA for MAIL, or for the server's address;
  // `recipient`: and at DATA for the recipient, if there is only one.
  [[nodiscard]] bool open(int fd, bool remembers, bool recipient);

  // What is known when `decision`, a step, is to be made. Points into *this and into the line.
  [[nodiscard]] policy::Facts at(const smtp::Decision& decision, std::string_view listener,
                                 std::uint32_t recipients) const;
  // Remembers what `decision`, which was applied, tells of the session; of a step that was refused, nothing.
  void applied(const smtp::Decision& decision) {
    if (said_ != nullptr) remember(decision);
  }
  // The upstream's word on the oldest RCPT that has none yet.
  void recipient_replied(bool accepted) {
    if (said_ != nullptr) said_->recipient_replied(accepted);
  }
  void transaction_ended() {
    if (said_ != nullptr) said_->forget_mail();
  }
  // Who the client is, and by which mechanism. Both stay where they are until tls_started().
  void authenticated(std::string_view user, std::string_view mechanism) {
    user_ = user;
    if (said_ != nullptr) said_->mechanism = mechanism;
  }
  // All that was said in clear text is forgotten (RFC 3207 4.2).
  void tls_started(const tls::Facts& tls);

 private:
  struct Recipient {
    std::string mailbox;
    std::size_t local_part = 0;  // octets
  };
  struct Said {
    policy::Address server{};
    std::uint16_t server_port = 0;
    bool esmtp = false;
    std::string arguments;  // of HELO, or EHLO, and of MAIL
    std::string_view helo;  // these point there
    std::string_view mail_argument;
    smtp::Path sender;
    std::uint64_t size = 0;
    std::string_view mechanism;  // of AUTH
    bool keeps_recipients = false;
    std::vector<Recipient> asked;  // RCPTs without a reply
    Recipient accepted;            // the first one

    void recipient_replied(bool good);
    [[gnu::cold]] void recall_recipient(policy::Facts& facts) const;
    void forget_mail();
  };
  struct Certificate {
    tls::PeerCertificate peer;
    policy::Certificate facts;  // points into it
  };
  struct Secured {
    policy::Tls tls;
    std::unique_ptr<const Certificate> certificate;
  };
  void remember(const smtp::Decision& decision);

  policy::Address client_{};
  std::uint16_t client_port_ = 0;
  std::string_view user_;
  std::unique_ptr<Said> said_;  // null: nobody asks for it
  std::unique_ptr<const Secured> secured_;
};

// Inlined: every step of every session waits for it.
inline policy::Facts SessionFacts::at(const smtp::Decision& decision, std::string_view listener,
                                      std::uint32_t recipients) const {
  policy::Facts facts;
  facts.listener = listener;
  facts.client = client_;
  facts.client_port = client_port_;
  facts.user = user_;
  facts.recipients = recipients;
  if (secured_ != nullptr) facts.tls = secured_->tls;
  if (said_ != nullptr) {
    facts.server = said_->server;
    facts.server_port = said_->server_port;
    facts.helo = said_->helo;
    facts.esmtp = said_->esmtp;
    facts.mechanism = said_->mechanism;
    facts.sender = said_->sender;
    facts.mail_argument = said_->mail_argument;
    facts.size = said_->size;
  }
  if (decision.action == smtp::Action::mail) {
    facts.sender = decision.mail.reverse_path;
    facts.mail_argument = decision.argument;
    facts.size = decision.mail.size;
  } else if (decision.action == smtp::Action::rcpt) {
    facts.recipient = decision.rcpt.forward_path;
    facts.rcpt_argument = decision.argument;
  } else if (recipients == 1 && said_ != nullptr) {
    said_->recall_recipient(facts);
  }
  return facts;
}

}  // namespace ringmx::gateway
