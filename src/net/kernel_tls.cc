// SPDX-License-Identifier: GPL-3.0-or-later
#include "net/kernel_tls.h"

#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <string_view>

namespace ringmx::net {

namespace {
#ifndef TLS_RX_EXPECT_NO_PAD
constexpr int TLS_RX_EXPECT_NO_PAD = 4;  // Linux 6.0
#endif
}  // namespace

int attach_kernel_tls(int fd) {
  constexpr std::string_view name = "tls";
  return setsockopt(fd, IPPROTO_TCP, TCP_ULP, name.data(), name.size()) == 0 ? 0 : -errno;
}

int set_kernel_tls_keys(int fd, TlsDirection direction, std::span<const std::byte> crypto_info) {
  const int option = direction == TlsDirection::receive ? TLS_RX : TLS_TX;
  return setsockopt(fd, SOL_TLS, option, crypto_info.data(), static_cast<socklen_t>(crypto_info.size())) == 0
             ? 0
             : -errno;
}

void expect_no_tls_padding(int fd) {
  const int on = 1;
  setsockopt(fd, SOL_TLS, TLS_RX_EXPECT_NO_PAD, &on, sizeof on);
}

}  // namespace ringmx::net
