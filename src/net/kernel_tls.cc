// SPDX-License-Identifier: GPL-3.0-or-later
#include "net/kernel_tls.h"

#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include "net/listen.h"

namespace ringmx::net {

namespace {

struct Pair {
  Socket one;
  Socket other;
};

// A connection of the host with itself: only a connected TCP socket can have TLS.
Pair loopback_pair() {
  const Socket listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Pair pair{Socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), Socket(-1)};
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listening.fd(), generic, length) != 0 || ::listen(listening.fd(), 1) != 0 ||
      ::getsockname(listening.fd(), generic, &length) != 0 ||
      ::connect(pair.one.fd(), generic, length) != 0) {
    return {Socket(-1), Socket(-1)};
  }
  pair.other = Socket(::accept4(listening.fd(), nullptr, nullptr, SOCK_CLOEXEC));
  return pair;
}

template <class Info>
bool takes(std::uint16_t cipher) {
  Info info{};
  info.info.version = TLS_1_3_VERSION;
  info.info.cipher_type = cipher;
  const Pair pair = loopback_pair();
  const int fd = pair.one.fd();
  const auto octets = std::as_bytes(std::span(&info, 1));
  return fd >= 0 && attach_kernel_tls(fd) == 0 &&
         set_kernel_tls_keys(fd, TlsDirection::receive, octets) == 0 &&
         set_kernel_tls_keys(fd, TlsDirection::transmit, octets) == 0;
}

// Of the drivers that the kernel has loaded for AES-GCM, one that uses the processor's instructions.
std::string accelerated_driver() {
  std::ifstream crypto("/proc/crypto");
  std::string line;
  bool gcm = false;
  while (std::getline(crypto, line)) {
    const auto colon = line.find(": ");
    if (colon == line.npos) continue;
    const std::string value = line.substr(colon + 2);
    if (line.starts_with("name")) gcm = value == "gcm(aes)";
    if (!gcm || !line.starts_with("driver")) continue;
    for (const char* kind : {"aesni", "vaes", "-ce", "neon"}) {
      if (value.find(kind) != value.npos) return value;
    }
  }
  return {};
}

#ifndef TLS_RX_EXPECT_NO_PAD
constexpr int TLS_RX_EXPECT_NO_PAD = 4;  // Linux 6.0
#endif
}  // namespace

KernelTls probe_kernel_tls() {
  KernelTls kernel;
  const std::string driver = accelerated_driver();
  kernel.fast = !driver.empty();
  kernel.aes_128_gcm = takes<tls12_crypto_info_aes_gcm_128>(TLS_CIPHER_AES_GCM_128);
  kernel.aes_256_gcm = takes<tls12_crypto_info_aes_gcm_256>(TLS_CIPHER_AES_GCM_256);
  kernel.chacha20_poly1305 = takes<tls12_crypto_info_chacha20_poly1305>(TLS_CIPHER_CHACHA20_POLY1305);
  kernel.available = kernel.aes_128_gcm || kernel.aes_256_gcm || kernel.chacha20_poly1305;
  if (!kernel.available) {
    const Pair pair = loopback_pair();
    const int error = attach_kernel_tls(pair.one.fd());
    kernel.summary = error == -ENOENT
                         ? "none: the kernel has no TLS (CONFIG_TLS); if it is a module: modprobe tls"
                         : std::string("none: ") + std::strerror(error == 0 ? EINVAL : -error);
    return kernel;
  }
  if (kernel.aes_128_gcm) kernel.summary += "AES-128-GCM ";
  if (kernel.aes_256_gcm) kernel.summary += "AES-256-GCM ";
  if (kernel.chacha20_poly1305) kernel.summary += "ChaCha20-Poly1305 ";
  kernel.summary += kernel.fast
                        ? "(" + driver + ")"
                        : "(AES without the processor's instructions, which is slow: load aesni-intel before "
                          "ringmx starts)";
  return kernel;
}

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
