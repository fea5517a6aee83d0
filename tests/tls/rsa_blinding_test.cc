// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/rsa_blinding.h"

#include <gtest/gtest.h>
#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/asn_public.h>
#include <wolfssl/wolfcrypt/hash.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

namespace ringmx::tls {
namespace {

using Octets = std::vector<byte>;

Octets der_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  const std::string pem(std::istreambuf_iterator<char>(in), {});
  Octets der(pem.size());
  const int size = wc_KeyPemToDer(reinterpret_cast<const byte*>(pem.data()), static_cast<int>(pem.size()),
                                  der.data(), static_cast<int>(der.size()), nullptr);
  EXPECT_GT(size, 0) << path;
  der.resize(static_cast<std::size_t>(std::max(size, 0)));
  return der;
}

struct Key : RsaKey {
  Key(const Octets& der, int device) : RsaKey{} {
    EXPECT_EQ(wc_InitRsaKey_ex(this, nullptr, device), 0);
    word32 at = 0;
    EXPECT_EQ(wc_RsaPrivateKeyDecode(der.data(), &at, this, static_cast<word32>(der.size())), 0);
  }
  Key(const Key&) = delete;
  Key& operator=(const Key&) = delete;
  ~Key() { wc_FreeRsaKey(this); }
};

class Blinding : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_EQ(wolfSSL_Init(), WOLFSSL_SUCCESS);
    ASSERT_TRUE(register_rsa_blinding());
  }
  void SetUp() override { ASSERT_EQ(wc_InitRng(&random_), 0); }
  void TearDown() override { wc_FreeRng(&random_); }

  // A signature that has no random part of its own (PKCS #1 v1.5).
  Octets sign(Key& key, byte what) {
    Octets signature(static_cast<std::size_t>(wc_RsaEncryptSize(&key)));
    const Octets digest(51, what);
    const int size = wc_RsaSSL_Sign(digest.data(), static_cast<word32>(digest.size()), signature.data(),
                                    static_cast<word32>(signature.size()), &key, &random_);
    EXPECT_EQ(size, static_cast<int>(signature.size()));
    return signature;
  }

  WC_RNG random_{};
  const Octets one_ = der_of(RINGMX_CERTIFICATES "/rsa.key");
  const Octets other_ = der_of(RINGMX_CERTIFICATES "/../rsa.key");
};

TEST_F(Blinding, ChangesNoSignature) {
  Key plain(one_, INVALID_DEVID);
  Key blinded(one_, rsa_blinding_device);
  for (int n = 0; n < 100; ++n) {  // past renewals
    ASSERT_EQ(sign(plain, static_cast<byte>(n)), sign(blinded, static_cast<byte>(n))) << n;
    ASSERT_EQ(blinded.devId, rsa_blinding_device);
  }
}

TEST_F(Blinding, KeepsKeysApart) {
  Key plain[] = {{one_, INVALID_DEVID}, {other_, INVALID_DEVID}};
  Key blinded[] = {{one_, rsa_blinding_device}, {other_, rsa_blinding_device}};
  ASSERT_NE(sign(plain[0], 1), sign(plain[1], 1));
  for (const int n : {0, 1, 0, 0, 1, 1, 1, 0}) ASSERT_EQ(sign(plain[n], 1), sign(blinded[n], 1));
}

TEST_F(Blinding, OfferedNumbersAreNeverTheSame) {
  Key key(one_, INVALID_DEVID);
  RsaBlinding blinding;
  const Octets number(static_cast<std::size_t>(wc_RsaEncryptSize(&key)), 0x55);
  std::set<Octets> seen{number};
  for (int n = 0; n < 100; ++n) {
    Octets blinded = number;
    ASSERT_TRUE(blinding.next(key, random_));
    ASSERT_TRUE(blinding.blind(blinded));
    EXPECT_TRUE(seen.insert(blinded).second) << n;
  }
}

// What the key does to it in between is to be the very power, without which nothing comes back.
TEST_F(Blinding, IsUndoneByThePowerAlone) {
  Key key(one_, INVALID_DEVID);
  RsaBlinding blinding;
  ASSERT_TRUE(blinding.next(key, random_));
  const Octets number(static_cast<std::size_t>(wc_RsaEncryptSize(&key)), 0x55);
  Octets octets = number;
  ASSERT_TRUE(blinding.blind(octets));
  ASSERT_TRUE(blinding.unblind(octets));
  EXPECT_NE(octets, number);
}

TEST_F(Blinding, LeavesPublicKeysAlone) {
  Key key(one_, rsa_blinding_device);
  Octets signature = sign(key, 7);
  Octets digest(51);
  EXPECT_EQ(wc_RsaSSL_Verify(signature.data(), static_cast<word32>(signature.size()), digest.data(),
                             static_cast<word32>(digest.size()), &key),
            51);
  EXPECT_EQ(digest, Octets(51, 7));
}

TEST_F(Blinding, NeedsRandomNumbers) {
  Key key(one_, rsa_blinding_device);
  Octets signature(256);
  const Octets digest(51, 1);
  EXPECT_LT(wc_RsaSSL_Sign(digest.data(), 51, signature.data(), 256, &key, nullptr), 0);
}

}  // namespace
}  // namespace ringmx::tls
