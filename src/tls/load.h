// SPDX-License-Identifier: GPL-3.0-or-later
// Reads what the settings name: at start, before privileges drop, and on SIGHUP. The only I/O of the room.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tls/material.h"
#include "tls/settings.h"
#include "tls/ticket_keys.h"

namespace ringmx::tls {

CheckedMaterial load_material(const ServerSettings& settings);

struct LoadedCas {
  std::string cas;  // PEM; empty where nothing is verified
  std::vector<std::string> errors;
  std::vector<std::string> warnings;
};
LoadedCas load_cas(const ClientSettings& settings);

struct LoadedTicketKeys {
  std::shared_ptr<const TicketKeys> keys;  // null if tickets are off, or there are errors
  std::vector<std::string> errors;
};
// `secret` is where derived keys come from, if there are no files; it should be the same at each load.
LoadedTicketKeys load_ticket_keys(const Tickets& tickets, const TicketKeys::Secret& secret);

}  // namespace ringmx::tls
