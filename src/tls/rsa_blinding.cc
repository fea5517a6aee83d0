// SPDX-License-Identifier: GPL-3.0-or-later
// wolfCrypt asks a "device" (cryptocb.h) before it does anything with a key that names one. Ours hands the
// blinded number back to wolfCrypt. All arithmetic is wolfCrypt's, and of constant time but for one
// inversion, which is given another random number's multiple.
#include "tls/rsa_blinding.h"

#include <wolfssl/wolfcrypt/cryptocb.h>
#include <wolfssl/wolfcrypt/error-crypt.h>
#include <wolfssl/wolfcrypt/wolfmath.h>

#include <algorithm>
#include <array>

namespace ringmx::tls {
namespace {

// A new r costs an inversion and a power, a third of a signature in all; squares of it cost a hundredth.
constexpr int uses = 32;

struct Number : mp_int {
  Number() : mp_int{} { mp_init(this); }
  Number(const Number&) = delete;
  Number& operator=(const Number&) = delete;
  ~Number() { mp_forcezero(this); }
};

bool random_below(mp_int& modulus, WC_RNG& random, mp_int& number) {
  return mp_rand(&number, modulus.used, &random) == MP_OKAY && mp_mod(&number, &modulus, &number) == MP_OKAY;
}

int operate(int, wc_CryptoInfo* info, void*) {
  if (info->algo_type != WC_ALGO_TYPE_PK || info->pk.type != WC_PK_TYPE_RSA) return CRYPTOCB_UNAVAILABLE;
  const auto& rsa = info->pk.rsa;
  if (rsa.type != RSA_PRIVATE_ENCRYPT && rsa.type != RSA_PRIVATE_DECRYPT) return CRYPTOCB_UNAVAILABLE;
  if (rsa.rng == nullptr) return MISSING_RNG_E;
  const int size = wc_RsaEncryptSize(rsa.key);
  std::array<byte, RSA_MAX_SIZE / 8> octets;
  if (size <= 0 || static_cast<std::size_t>(size) > octets.size() || rsa.inLen != static_cast<word32>(size)) {
    return BAD_FUNC_ARG;
  }
  thread_local RsaBlinding blinding;
  const std::span number(octets.data(), rsa.inLen);
  std::copy_n(rsa.in, rsa.inLen, number.begin());
  if (!blinding.next(*rsa.key, *rsa.rng) || !blinding.blind(number)) return MP_MULMOD_E;
  rsa.key->devId = INVALID_DEVID;
  const int result =
      wc_RsaFunction(number.data(), rsa.inLen, rsa.out, rsa.outLen, rsa.type, rsa.key, rsa.rng);
  rsa.key->devId = rsa_blinding_device;
  if (result < 0) return result;
  return blinding.unblind({rsa.out, *rsa.outLen}) ? result : MP_MULMOD_E;
}

}  // namespace

RsaBlinding::~RsaBlinding() {
  mp_forcezero(&factor_);
  mp_forcezero(&inverse_);
}

bool RsaBlinding::next(const RsaKey& key, WC_RNG& random) {
  if (uses_left_-- > 0 && mp_cmp(&modulus_, &key.n) == MP_EQ) {
    return multiply(factor_, factor_) && multiply(inverse_, inverse_);
  }
  uses_left_ = 0;
  if (!renew(key, random)) return false;
  uses_left_ = uses - 1;
  return true;
}

bool RsaBlinding::renew(const RsaKey& key, WC_RNG& random) {
  Number other;
  Number one;  // in Montgomery's form
  for (mp_int* number : {&modulus_, &factor_, &inverse_}) {
    if (mp_init(number) != MP_OKAY) return false;
  }
  return mp_copy(&key.n, &modulus_) == MP_OKAY && mp_montgomery_setup(&modulus_, &montgomery_) == MP_OKAY &&
         mp_montgomery_calc_normalization(&one, &modulus_) == MP_OKAY &&
         random_below(modulus_, random, factor_) && random_below(modulus_, random, other) &&
         // 1/r = s * 1/(r * s)
         mp_mulmod(&factor_, &other, &modulus_, &inverse_) == MP_OKAY &&
         mp_invmod(&inverse_, &modulus_, &inverse_) == MP_OKAY &&
         mp_mulmod(&inverse_, &other, &modulus_, &inverse_) == MP_OKAY &&
         mp_exptmod(&factor_, &key.e, &modulus_, &factor_) == MP_OKAY &&
         mp_mulmod(&factor_, &one, &modulus_, &factor_) == MP_OKAY &&
         mp_mulmod(&inverse_, &one, &modulus_, &inverse_) == MP_OKAY;
}

bool RsaBlinding::blind(std::span<byte> number) const {
  return multiply(number, factor_);
}

bool RsaBlinding::unblind(std::span<byte> number) const {
  return multiply(number, inverse_);
}

bool RsaBlinding::multiply(mp_int& number, const mp_int& factor) const {
  return mp_mul(&number, &factor, &number) == MP_OKAY &&
         mp_montgomery_reduce_ct(&number, &modulus_, montgomery_) == MP_OKAY;
}

bool RsaBlinding::multiply(std::span<byte> octets, const mp_int& factor) const {
  Number number;
  const auto size = static_cast<word32>(octets.size());
  return mp_read_unsigned_bin(&number, octets.data(), size) == MP_OKAY && multiply(number, factor) &&
         mp_to_unsigned_bin_len(&number, octets.data(), static_cast<int>(size)) == MP_OKAY;
}

bool register_rsa_blinding() {
  return wc_CryptoCb_RegisterDevice(rsa_blinding_device, operate, nullptr) == 0;
}

}  // namespace ringmx::tls
