// SPDX-License-Identifier: GPL-3.0-or-later
// Private-key operations of RSA on numbers that nobody else knows. wolfCrypt's fixed-size code, which makes
// the signatures here, takes the same time whatever the numbers are; what else it may show of them (power,
// frequency, a mistake in it) does not belong to the message that was signed, nor twice to the same one.
#pragma once

#include <wolfssl/wolfcrypt/rsa.h>

#include <span>

namespace ringmx::tls {

// A random r of the key's, as r^e and 1/r. It is squared between operations, and now and then replaced.
class RsaBlinding {
 public:
  RsaBlinding() = default;
  RsaBlinding(const RsaBlinding&) = delete;
  RsaBlinding& operator=(const RsaBlinding&) = delete;
  ~RsaBlinding();

  // Before each operation. False, here and below: wolfCrypt fails.
  [[nodiscard]] bool next(const RsaKey& key, WC_RNG& random);
  // A number below the modulus, big-endian and as long: x becomes x * r^e, of which the private-key
  // operation makes x^d * r, of which unblind() makes x^d.
  [[nodiscard]] bool blind(std::span<byte> number) const;
  [[nodiscard]] bool unblind(std::span<byte> number) const;

 private:
  [[nodiscard]] bool renew(const RsaKey& key, WC_RNG& random);
  [[nodiscard]] bool multiply(mp_int& number, const mp_int& factor) const;
  [[nodiscard]] bool multiply(std::span<byte> number, const mp_int& factor) const;

  int uses_left_ = 0;
  mp_int modulus_{};
  mp_digit montgomery_ = 0;
  // In Montgomery's form.
  mp_int factor_{};
  mp_int inverse_{};
};

// The device (wolfSSL_CTX_SetDevId, wc_InitRsaKey_ex) whose keys are used in this way. It is there after
// register_rsa_blinding(), to be called once and while there are no other threads.
inline constexpr int rsa_blinding_device = 1;
[[nodiscard]] bool register_rsa_blinding();

}  // namespace ringmx::tls
