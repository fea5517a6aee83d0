// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/address.h"

#include <stdexcept>

namespace ringmx::gateway {

net::Address socket_address(const config::Endpoint& endpoint) {
  const auto address = endpoint.family == config::Endpoint::Family::unix_socket
                           ? net::Address::unix_path(endpoint.path)
                           : net::Address::ip(endpoint.host, endpoint.port);
  if (!address) throw std::invalid_argument("not an address: " + endpoint.text());
  return *address;
}

}  // namespace ringmx::gateway
