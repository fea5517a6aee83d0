// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "policy/facts.h"
#include "ringmx/smtp/session.h"
#include "tls/connection.h"

namespace ringmx::gateway {

// What a session has said about itself, for whoever decides what it may. Only sessions of listeners where
// there is somebody to decide keep it.
class SessionFacts {
 public:
  // Both ends of the socket are asked for their addresses. `listener`: its name.
  SessionFacts(int fd, std::string_view listener);
  SessionFacts(const SessionFacts&) = delete;
  SessionFacts& operator=(const SessionFacts&) = delete;

  // What is known when `decision`, a step, is to be made. Points into *this and into the line, so it holds
  // until applied().
  [[nodiscard]] const policy::Facts& at(const smtp::Decision& decision, std::uint32_t recipients);
  // Remembers what `decision`, which was applied, tells of the session; of a step that was refused, nothing.
  void applied(const smtp::Decision& decision);
  void transaction_ended() { forget_envelope(); }
  // Who the client is. `user` stays where it is until tls_started().
  void authenticated(std::string_view user) { facts_.user = user; }
  // All that was said in clear text is forgotten (RFC 3207 4.2).
  void tls_started(const tls::Facts& tls);

 private:
  struct Certificate {
    tls::PeerCertificate peer;
    policy::Certificate facts;  // points into it
  };
  void forget_envelope();

  policy::Facts facts_;
  bool sender_in_line_ = false;  // facts_ points there
  std::string said_;             // the arguments of HELO, or EHLO, and of MAIL
  std::unique_ptr<const Certificate> certificate_;
};

}  // namespace ringmx::gateway
