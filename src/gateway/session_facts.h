// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "policy/facts.h"
#include "ringmx/smtp/session.h"
#include "tls/connection.h"

namespace ringmx::gateway {

// What a session has said about itself, for whoever decides what it may. Only sessions of listeners where
// there is somebody to decide keep it.
class SessionFacts {
 public:
  // Both ends of the socket are asked for their addresses.
  explicit SessionFacts(int fd);

  // Remembers what `decision`, which was applied, tells of the session.
  void applied(const smtp::Decision& decision);
  void transaction_ended() noexcept { envelope_.reset(); }
  // All that was said in clear text is forgotten (RFC 3207 4.2).
  void tls_started(const tls::Facts& tls);

  // What is known when `decision`, a step, is to be made. Points into *this and into the line.
  [[nodiscard]] policy::Facts at(const smtp::Decision& decision) const;

 private:
  struct Envelope {
    std::string mail_argument;
    smtp::Path sender;  // points into it
    std::uint64_t size = 0;
  };
  struct Certificate {
    tls::PeerCertificate peer;
    policy::Certificate facts;  // points into it
  };
  policy::Address client_{};
  policy::Address server_{};
  std::uint16_t client_port_ = 0;
  std::uint16_t server_port_ = 0;
  bool esmtp_ = false;
  std::string helo_;
  policy::Tls tls_;
  std::unique_ptr<const Certificate> certificate_;
  std::unique_ptr<const Envelope> envelope_;
};

}  // namespace ringmx::gateway
