// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include "config/config.h"
#include "net/address.h"

namespace ringmx::gateway {

// The configuration has checked that it is an address.
[[nodiscard]] net::Address socket_address(const config::Endpoint& endpoint);

}  // namespace ringmx::gateway
