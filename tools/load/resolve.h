// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include "load/options.h"
#include "net/address.h"

namespace ringmx::load {

// The address to send load to. Of a name with several, the first that takes a connection.
// Throws std::runtime_error with what is wrong in words.
[[nodiscard]] net::Address resolve(const Target& target, Nanoseconds connect_timeout);

// It can only be this machine.
[[nodiscard]] bool is_local(const net::Address& address) noexcept;

}  // namespace ringmx::load
