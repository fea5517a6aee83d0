// SPDX-License-Identifier: GPL-3.0-or-later
#include "net/address.h"

#include <arpa/inet.h>

#include <array>
#include <cstddef>
#include <cstring>

namespace ringmx::net {

std::optional<Address> Address::ip(const std::string& host, std::uint16_t port) {
  Address a;
  if (inet_pton(AF_INET, host.c_str(), &a.storage_.v4.sin_addr) == 1) {
    a.storage_.v4.sin_family = AF_INET;
    a.storage_.v4.sin_port = htons(port);
    a.size_ = sizeof(sockaddr_in);
    return a;
  }
  a.storage_ = {};
  if (inet_pton(AF_INET6, host.c_str(), &a.storage_.v6.sin6_addr) == 1) {
    a.storage_.v6.sin6_family = AF_INET6;
    a.storage_.v6.sin6_port = htons(port);
    a.size_ = sizeof(sockaddr_in6);
    return a;
  }
  return std::nullopt;
}

std::optional<Address> Address::unix_path(std::string_view path) {
  Address a;
  if (path.empty() || path.size() >= sizeof(a.storage_.local.sun_path)) return std::nullopt;
  a.storage_.local.sun_family = AF_UNIX;
  std::memcpy(a.storage_.local.sun_path, path.data(), path.size());
  a.size_ = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size() + 1);
  return a;
}

std::optional<Address> Address::peer_of(int fd) noexcept {
  Address a;
  a.size_ = sizeof a.storage_;
  if (getpeername(fd, &a.storage_.any, &a.size_) != 0) return std::nullopt;
  return a;
}

std::span<const std::uint8_t> Address::host() const noexcept {
  switch (family()) {
    case AF_INET:
      return {reinterpret_cast<const std::uint8_t*>(&storage_.v4.sin_addr), 4};
    case AF_INET6:
      return {reinterpret_cast<const std::uint8_t*>(&storage_.v6.sin6_addr), 16};
    default:
      return {};
  }
}

std::string Address::text() const {
  std::array<char, INET6_ADDRSTRLEN> buffer{};
  switch (family()) {
    case AF_INET:
      inet_ntop(AF_INET, &storage_.v4.sin_addr, buffer.data(), buffer.size());
      return std::string(buffer.data()) + ":" + std::to_string(ntohs(storage_.v4.sin_port));
    case AF_INET6:
      inet_ntop(AF_INET6, &storage_.v6.sin6_addr, buffer.data(), buffer.size());
      return std::string("[").append(buffer.data()).append("]:") +
             std::to_string(ntohs(storage_.v6.sin6_port));
    default:
      return std::string("unix:") + storage_.local.sun_path;
  }
}

}  // namespace ringmx::net
