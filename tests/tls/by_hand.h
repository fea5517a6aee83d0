// SPDX-License-Identifier: GPL-3.0-or-later
// One direction of records, from the octets that the kernel would be given and nothing else: RFC 8446 5.2
// and 5.3, RFC 5288, RFC 7905. Written apart from src/tls/aead.cc, to be its witness.
#pragma once

#include <gtest/gtest.h>
#include <linux/tls.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/chacha20_poly1305.h>

#include <cstring>
#include <optional>
#include <string>
#include <string_view>

#include "tls/record_keys.h"

namespace tls = ringmx::tls;

namespace tls_test {

class ByHand {
 public:
  explicit ByHand(const tls::RecordKeys& keys) {
    const auto info = keys.crypto_info();
    tls_crypto_info header;
    std::memcpy(&header, info.data(), sizeof header);
    tls13_ = header.version == TLS_1_3_VERSION;
    type_ = header.cipher_type;
    const auto take = [&](auto kernel) {
      EXPECT_EQ(sizeof kernel, info.size());
      std::memcpy(&kernel, info.data(), sizeof kernel);
      key_.assign(reinterpret_cast<const char*>(kernel.key), sizeof kernel.key);
      if (type_ != TLS_CIPHER_CHACHA20_POLY1305) {
        nonce_.assign(reinterpret_cast<const char*>(kernel.salt), 4);
      }
      nonce_.append(reinterpret_cast<const char*>(kernel.iv), sizeof kernel.iv);
      sequence_ = 0;
      for (const unsigned char c : kernel.rec_seq) sequence_ = sequence_ << 8 | c;
    };
    switch (type_) {
      case TLS_CIPHER_AES_GCM_128:
        take(tls12_crypto_info_aes_gcm_128{});
        break;
      case TLS_CIPHER_AES_GCM_256:
        take(tls12_crypto_info_aes_gcm_256{});
        break;
      case TLS_CIPHER_CHACHA20_POLY1305:
        take(tls12_crypto_info_chacha20_poly1305{});
        break;
      default:
        ADD_FAILURE() << "cipher type " << type_;
    }
  }

  std::uint64_t sequence() const { return sequence_; }

  // The type and content of one whole record.
  struct Content {
    int type;
    std::string text;
  };
  std::optional<Content> open(std::string_view record) {
    const bool travels = !tls13_ && type_ != TLS_CIPHER_CHACHA20_POLY1305;
    std::string nonce = nonce_;
    std::string_view body = record.substr(5);
    if (travels) {
      nonce.replace(4, 8, body.substr(0, 8));
      body.remove_prefix(8);
    } else {
      mix(nonce);
    }
    const std::string_view tag = body.substr(body.size() - 16);
    std::string text(body.substr(0, body.size() - 16));
    const std::string additional =
        tls13_ ? std::string(record.substr(0, 5)) : old_additional(record[0], text.size());
    int error = 0;
    std::string plain(text.size() + 1, '\0');
    if (type_ == TLS_CIPHER_CHACHA20_POLY1305) {
      error = wc_ChaCha20Poly1305_Decrypt(octets(key_), octets(nonce), octets(additional), size(additional),
                                          octets(text), size(text), octets(tag), octets(plain));
    } else {
      Aes aes;
      wc_AesInit(&aes, nullptr, INVALID_DEVID);
      wc_AesGcmSetKey(&aes, octets(key_), size(key_));
      error = wc_AesGcmDecrypt(&aes, octets(plain), octets(text), size(text), octets(nonce), 12, octets(tag),
                               16, octets(additional), size(additional));
      wc_AesFree(&aes);
    }
    if (error != 0) return std::nullopt;
    ++sequence_;
    plain.resize(text.size());
    if (!tls13_) return Content{record[0], plain};
    plain.resize(plain.find_last_not_of('\0') + 1);
    const int type = plain.back();
    plain.pop_back();
    return Content{type, plain};
  }

  std::string seal(int type, std::string_view content, std::size_t padding = 0) {
    const bool travels = !tls13_ && type_ != TLS_CIPHER_CHACHA20_POLY1305;
    std::string nonce = nonce_;
    std::string text(content);
    if (tls13_) text += static_cast<char>(type) + std::string(padding, '\0');
    std::string explicit_nonce;
    if (travels) {
      // Any value will do, if only it is used once.
      for (int i = 7; i >= 0; --i) explicit_nonce += static_cast<char>((sequence_ + 77) >> (8 * i));
      nonce.replace(4, 8, explicit_nonce);
    } else {
      mix(nonce);
    }
    const std::size_t length = explicit_nonce.size() + text.size() + 16;
    std::string record{static_cast<char>(tls13_ ? 23 : type), 3, 3, static_cast<char>(length >> 8),
                       static_cast<char>(length)};
    const std::string additional = tls13_ ? record : old_additional(record[0], text.size());
    std::string sealed(text.size(), '\0');
    std::string tag(16, '\0');
    if (type_ == TLS_CIPHER_CHACHA20_POLY1305) {
      EXPECT_EQ(0,
                wc_ChaCha20Poly1305_Encrypt(octets(key_), octets(nonce), octets(additional), size(additional),
                                            octets(text), size(text), octets(sealed), octets(tag)));
    } else {
      Aes aes;
      wc_AesInit(&aes, nullptr, INVALID_DEVID);
      wc_AesGcmSetKey(&aes, octets(key_), size(key_));
      EXPECT_EQ(0, wc_AesGcmEncrypt(&aes, octets(sealed), octets(text), size(text), octets(nonce), 12,
                                    octets(tag), 16, octets(additional), size(additional)));
      wc_AesFree(&aes);
    }
    ++sequence_;
    return record + explicit_nonce + sealed + tag;
  }

 private:
  bool tls13_ = false;
  int type_ = 0;
  std::string key_;
  std::string nonce_;
  std::uint64_t sequence_ = 0;

  static unsigned char* octets(std::string& s) { return reinterpret_cast<unsigned char*>(s.data()); }
  static const unsigned char* octets(std::string_view s) {
    return reinterpret_cast<const unsigned char*>(s.data());
  }
  static word32 size(std::string_view s) { return static_cast<word32>(s.size()); }
  void mix(std::string& nonce) const {
    for (std::size_t i = 0; i < 8; ++i)
      nonce[11 - i] = static_cast<char>(static_cast<unsigned char>(nonce[11 - i]) ^ (sequence_ >> (8 * i)));
  }
  std::string old_additional(char type, std::size_t length) const {
    std::string text;
    for (int i = 7; i >= 0; --i) text += static_cast<char>(sequence_ >> (8 * i));
    return text + type + "\3\3" + static_cast<char>(length >> 8) + static_cast<char>(length);
  }
};

}  // namespace tls_test
