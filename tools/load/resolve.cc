// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/resolve.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "net/listen.h"

namespace ringmx::load {

net::Address resolve(const Target& target, Nanoseconds connect_timeout) {
  if (!target.path.empty()) {
    const auto address = net::Address::unix_path(target.path);
    if (!address) throw std::runtime_error(target.path + ": too long for a unix socket");
    return *address;
  }
  if (const auto numeric = net::Address::ip(target.host, target.port)) return *numeric;

  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(target.host.c_str(), nullptr, &hints, &found); error != 0) {
    throw std::runtime_error(target.host + ": " + gai_strerror(error));
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(found, &freeaddrinfo);
  std::vector<net::Address> addresses;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (getnameinfo(one->ai_addr, one->ai_addrlen, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) !=
        0) {
      continue;
    }
    if (const auto address = net::Address::ip(text.data(), target.port)) addresses.push_back(*address);
  }
  if (addresses.empty()) throw std::runtime_error(target.host + ": has no address that can be used");
  if (addresses.size() == 1) return addresses.front();

  std::string tried;
  for (const net::Address& address : addresses) {
    const net::Socket socket(net::stream_socket(address));
    const timeval patience{.tv_sec = connect_timeout / second, .tv_usec = connect_timeout % second / 1000};
    setsockopt(socket.fd(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    if (::connect(socket.fd(), address.data(), address.size()) == 0) return address;
    tried.append("; ").append(address.text()).append(": ").append(std::strerror(errno));
  }
  throw std::runtime_error(target.host + ": no address takes a connection" + tried);
}

bool is_local(const net::Address& address) noexcept {
  if (address.is_unix()) return true;
  if (address.family() == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, address.data(), sizeof v4);
    return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
  }
  sockaddr_in6 v6{};
  std::memcpy(&v6, address.data(), sizeof v6);
  return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr) ||
         (IN6_IS_ADDR_V4MAPPED(&v6.sin6_addr) && v6.sin6_addr.s6_addr[12] == 127);
}

}  // namespace ringmx::load
