// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ringmx::net {

// A socket's address: IPv4, IPv6 or a path.
class Address {
 public:
  // host: numeric, IPv6 without brackets. Nothing if it is no address.
  [[nodiscard]] static std::optional<Address> ip(const std::string& host, std::uint16_t port);
  // Nothing if the path is empty or too long for a socket.
  [[nodiscard]] static std::optional<Address> unix_path(std::string_view path);
  // Of the other side of a connected socket. Nothing if the connection has broken meanwhile.
  [[nodiscard]] static std::optional<Address> peer_of(int fd) noexcept;

  [[nodiscard]] const sockaddr* data() const noexcept { return &storage_.any; }
  [[nodiscard]] socklen_t size() const noexcept { return size_; }
  // Of the host, in network order: 4, 16, or none of a path.
  [[nodiscard]] std::span<const std::uint8_t> host() const noexcept;
  [[nodiscard]] int family() const noexcept { return storage_.any.sa_family; }
  [[nodiscard]] bool is_unix() const noexcept { return family() == AF_UNIX; }
  // "127.0.0.1:25", "[::1]:25", "unix:/run/mta.sock"
  [[nodiscard]] std::string text() const;

 private:
  Address() noexcept = default;
  union {
    sockaddr_un local;  // the largest comes first: {} clears the first alone
    sockaddr any;
    sockaddr_in v4;
    sockaddr_in6 v6;
  } storage_{};
  socklen_t size_ = 0;
};

}  // namespace ringmx::net
