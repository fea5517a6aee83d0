// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <vector>

#include "net/address.h"

namespace ringmx::net {

// A descriptor that closes itself.
class Socket {
 public:
  explicit Socket(int fd = -1) noexcept : fd_(fd) {}
  Socket(Socket&& o) noexcept : fd_(o.release()) {}
  Socket& operator=(Socket&& o) noexcept;
  ~Socket();
  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] int release() noexcept;

 private:
  int fd_;
};

// The listening sockets of one address, one per reactor.
//
// For IP each reactor has its own (SO_REUSEPORT), and a program in the kernel chooses by the
// client's address alone: all connections of one client land on one core, so what is counted per
// client needs no sharing. A unix socket has one queue; all reactors accept from it.
// Throws std::system_error that names the address.
[[nodiscard]] std::vector<Socket> listen(const Address& address, unsigned reactors, int backlog);

// A non-listening stream socket for connecting to `address`; TCP without Nagle's delay. -1 and errno
// if there is none to be had.
[[nodiscard]] int stream_socket(const Address& address) noexcept;

}  // namespace ringmx::net
