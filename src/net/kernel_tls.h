// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace ringmx::net {

// The kernel's TLS (kTLS): it seals and opens the records of a connected TCP socket. System calls that
// never wait.

// What it can do, tried on sockets of its own.
struct KernelTls {
  bool available = false;
  // Its AES-GCM uses the processor's instructions. Where not, receiving takes many times as long as in
  // user space; loading the module later does not help the sockets that are there already.
  bool fast = false;
  bool aes_128_gcm = false;
  bool aes_256_gcm = false;
  bool chacha20_poly1305 = false;
  std::string
      summary;  // one line for the log: what there is, or why there is nothing and what to do about it
};
[[nodiscard]] KernelTls probe_kernel_tls();

enum class TlsDirection : std::uint8_t { receive, transmit };

// Makes the socket one whose records the kernel can do (TCP_ULP). 0 or -errno: -ENOENT where the kernel
// has no such thing.
[[nodiscard]] int attach_kernel_tls(int fd);
// From here on records of this direction are the kernel's; a second call replaces the keys, after a
// KeyUpdate. `crypto_info` is one of linux/tls.h's. 0 or -errno: -EINVAL or -ENOENT for a cipher that it has
// not; -EBUSY where keys can't be replaced (before 6.14).
[[nodiscard]] int set_kernel_tls_keys(int fd, TlsDirection direction, std::span<const std::byte> crypto_info);
// TLS 1.3 without padding, which is what peers send: records are opened where they are to be, and only if
// one is padded, once more. Worth asking for; nothing is lost where it is refused.
void expect_no_tls_padding(int fd);

}  // namespace ringmx::net
