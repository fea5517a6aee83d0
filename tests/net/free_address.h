// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "net/address.h"
#include "net/listen.h"

namespace ringmx::net {

// An address on loopback that nobody uses: tests that run at the same time have different hosts.
inline Address free_address() {
  const auto pid = static_cast<unsigned>(getpid());
  const std::string host = "127.77." + std::to_string(pid / 254 % 256) + "." + std::to_string(1 + pid % 254);
  const Socket probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const Address any_port = *Address::ip(host, 0);
  EXPECT_EQ(bind(probe.fd(), any_port.data(), any_port.size()), 0);
  sockaddr_in bound{};
  socklen_t size = sizeof bound;
  EXPECT_EQ(getsockname(probe.fd(), reinterpret_cast<sockaddr*>(&bound), &size), 0);
  return *Address::ip(host, ntohs(bound.sin_port));
}

}  // namespace ringmx::net
