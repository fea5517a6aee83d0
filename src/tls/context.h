// SPDX-License-Identifier: GPL-3.0-or-later
// What connections have in common: certificates, versions, groups, ticket keys. One of each per reactor, made
// anew when the configuration changes; a connection keeps the one that it began with.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tls/alert.h"
#include "tls/client_hello.h"
#include "tls/failure.h"
#include "tls/material.h"
#include "tls/settings.h"
#include "tls/ticket_keys.h"

struct WOLFSSL_CTX;

namespace ringmx::tls {

struct FreeContext {
  void operator()(WOLFSSL_CTX* context) const;
};
using WolfContext = std::unique_ptr<WOLFSSL_CTX, FreeContext>;

using Clock = std::int64_t (*)();  // seconds since 1970
std::int64_t system_clock();

class ServerContext {
 public:
  // `ticket_keys` may be null: no tickets. There are none either where client certificates are asked for,
  // since a resumed session does not show them again. Throws std::runtime_error.
  ServerContext(std::shared_ptr<const Material> material, const ServerSettings& settings,
                std::shared_ptr<const TicketKeys> ticket_keys, Clock clock = system_clock);

  // For Connection. What a client is to be served with, or why it can't be.
  struct Choice {
    WOLFSSL_CTX* context = nullptr;
    Reason reason = Reason::none;
    Alert alert = Alert::none;
  };
  Choice choose(const ClientHello& hello) const;
  ClientCertificates client_certificates() const { return client_certificates_; }
  const TicketKeys* ticket_keys() const { return ticket_keys_.get(); }
  std::int64_t now() const { return clock_(); }

 private:
  std::shared_ptr<const Material> material_;
  std::shared_ptr<const TicketKeys> ticket_keys_;
  Version minimum_;
  ClientCertificates client_certificates_;
  Clock clock_;
  std::vector<WolfContext> contexts_;  // by certificate
};

class ClientContext {
 public:
  // `cas` is PEM, for verification (load_cas). `own` has the certificate to show if the server asks for one,
  // its first. Throws std::runtime_error.
  ClientContext(const ClientSettings& settings, std::string_view cas, const Material* own = nullptr);

  // For Connection.
  WOLFSSL_CTX* context() const { return context_.get(); }
  bool verifies() const { return verifies_; }
  const std::string& name() const { return name_; }
  const std::vector<Group>& key_shares() const { return key_shares_; }

 private:
  WolfContext context_;
  std::string name_;
  std::vector<Group> key_shares_;
  bool verifies_;
};

}  // namespace ringmx::tls
