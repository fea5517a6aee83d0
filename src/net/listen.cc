// SPDX-License-Identifier: GPL-3.0-or-later
#include "net/listen.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <system_error>
#include <utility>

namespace ringmx::net {

namespace {

void set_option(int fd, int level, int name, int value, const Address& address, const char* what) {
  if (setsockopt(fd, level, name, &value, sizeof value) != 0) {
    throw std::system_error(errno, std::generic_category(), std::string(what) + " for " + address.text());
  }
}

// Classic BPF: fold the source address into 32 bits, mix them, and take the remainder. IPv4-mapped
// clients of an IPv6 socket come as IPv4 packets, hence the look at the version.
void steer_by_source_address(int fd, unsigned reactors, const Address& address) {
  constexpr auto net = static_cast<std::uint32_t>(SKF_NET_OFF);
  auto instructions = std::to_array<sock_filter>({
      BPF_STMT(BPF_LD | BPF_B | BPF_ABS, net),
      BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 4, 0, 2),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, net + 12),  // IPv4 source
      BPF_STMT(BPF_JMP | BPF_JA, 9),
      // IPv6: a client owns its /64, so the first eight octets are its address.
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, net + 8),
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, net + 12),
      BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 0x9e3779b1),
      BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
      BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 15),
      BPF_STMT(BPF_ALU | BPF_XOR | BPF_X, 0),
      BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 0x85ebca6b),
      BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 0x9e3779b1),
      BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 16),
      BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, reactors),
      BPF_STMT(BPF_RET | BPF_A, 0),
  });
  const sock_fprog program{.len = instructions.size(), .filter = instructions.data()};
  if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program) != 0) {
    throw std::system_error(errno, std::generic_category(), "SO_ATTACH_REUSEPORT_CBPF for " + address.text());
  }
}

Socket bind_and_listen(const Address& address, int backlog, bool reuse_port) {
  Socket socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  const auto fail = [&](const char* what) {
    throw std::system_error(errno, std::generic_category(), std::string(what) + " " + address.text());
  };
  if (socket.fd() < 0) fail("can't make a socket for");
  if (!address.is_unix()) {
    set_option(socket.fd(), SOL_SOCKET, SO_REUSEADDR, 1, address, "SO_REUSEADDR");
    if (reuse_port) set_option(socket.fd(), SOL_SOCKET, SO_REUSEPORT, 1, address, "SO_REUSEPORT");
    // Accepted sockets inherit it. Replies are short and waited for: Nagle's delay would only add to
    // the peer's delayed acknowledgement.
    set_option(socket.fd(), IPPROTO_TCP, TCP_NODELAY, 1, address, "TCP_NODELAY");
    if (address.family() == AF_INET6)
      set_option(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, 1, address, "IPV6_V6ONLY");
  }
  if (bind(socket.fd(), address.data(), address.size()) != 0) fail("can't bind to");
  if (::listen(socket.fd(), backlog) != 0) fail("can't listen on");
  return socket;
}

// A socket file that nobody listens on is what an earlier process left behind. Connecting to a file
// that is no socket is refused just the same, and one whose queue is full must not be waited for.
void remove_stale(const Address& address) {
  const char* path = reinterpret_cast<const sockaddr_un*>(address.data())->sun_path;
  struct stat status {};
  if (lstat(path, &status) != 0 || !S_ISSOCK(status.st_mode)) return;
  const Socket probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (probe.fd() >= 0 && connect(probe.fd(), address.data(), address.size()) != 0 && errno == ECONNREFUSED) {
    unlink(path);
  }
}

}  // namespace

Socket& Socket::operator=(Socket&& o) noexcept {
  if (this != &o) {
    if (fd_ >= 0) close(fd_);
    fd_ = o.release();
  }
  return *this;
}

Socket::~Socket() {
  if (fd_ >= 0) close(fd_);
}

int Socket::release() noexcept {
  return std::exchange(fd_, -1);
}

std::vector<Socket> listen(const Address& address, unsigned reactors, int backlog) {
  std::vector<Socket> sockets;
  if (address.is_unix()) {
    remove_stale(address);
    sockets.push_back(bind_and_listen(address, backlog, false));
    for (unsigned i = 1; i < reactors; ++i) {
      Socket copy(fcntl(sockets.front().fd(), F_DUPFD_CLOEXEC, 0));
      if (copy.fd() < 0) throw std::system_error(errno, std::generic_category(), "dup");
      sockets.push_back(std::move(copy));
    }
    return sockets;
  }
  {
    // SO_REUSEPORT would let a second ringmx of the same user share the port, each answering a part
    // of the clients. Nobody wants that: ask first, without it.
    const Socket exclusive = bind_and_listen(address, backlog, false);
  }
  for (unsigned i = 0; i < reactors; ++i) sockets.push_back(bind_and_listen(address, backlog, true));
  if (reactors > 1) steer_by_source_address(sockets.front().fd(), reactors, address);
  return sockets;
}

int stream_socket(const Address& address) noexcept {
  const int fd = ::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (fd >= 0 && !address.is_unix()) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

}  // namespace ringmx::net
