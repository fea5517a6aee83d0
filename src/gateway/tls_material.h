// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "config/config.h"
#include "tls/context.h"
#include "tls/material.h"
#include "tls/ticket_keys.h"

namespace ringmx::gateway {

// What all cores have in common for TLS: what the configuration's files held when it was made.
struct TlsMaterial {
  std::vector<std::shared_ptr<const tls::Material>>
      listeners;                                       // in the order of the configuration; null: no TLS
  std::vector<std::string> upstream_cas;               // PEM, likewise; empty: nothing is verified
  std::vector<std::string> service_cas;                // likewise, of the services
  std::shared_ptr<const tls::TicketKeys> ticket_keys;  // null: no tickets
};

struct LoadedTlsMaterial {
  std::shared_ptr<const TlsMaterial> material;  // null if there are errors
  std::vector<std::string> errors;
  std::vector<std::string> warnings;
};
// Reads the files. `secret` is where ticket keys come from that are in no file: the same for the life of the
// process, so that tickets outlive a reload.
[[nodiscard]] LoadedTlsMaterial load_tls_material(const config::Config& config,
                                                  const tls::TicketKeys::Secret& secret);

// What a core makes of them for itself. In the order of the configuration; null: no TLS.
struct TlsContexts {
  std::vector<std::shared_ptr<const tls::ServerContext>> listeners;
  std::vector<std::shared_ptr<const tls::ClientContext>> upstreams;
  std::vector<std::shared_ptr<const tls::ClientContext>> services;
};
// Throws std::runtime_error.
TlsContexts make_tls_contexts(const config::Config& config, const TlsMaterial& material);

}  // namespace ringmx::gateway
