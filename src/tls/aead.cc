// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/aead.h"

#include <linux/tls.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/chacha20_poly1305.h>

#include <cstring>
#include <stdexcept>

namespace ringmx::tls {
namespace {

std::uint64_t load64(const unsigned char* from) {
  std::uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | from[i];
  return value;
}

void store64(unsigned char* to, std::uint64_t value) {
  for (int i = 7; i >= 0; --i, value >>= 8) to[i] = static_cast<unsigned char>(value);
}

unsigned char* octets(char* p) {
  return reinterpret_cast<unsigned char*>(p);
}
const unsigned char* octets(const char* p) {
  return reinterpret_cast<const unsigned char*>(p);
}

template <typename Info>
void set_up_aes(Aes& aes, const RecordKeys& keys, std::array<unsigned char, 12>& iv,
                std::uint64_t& sequence) {
  Info info;
  std::memcpy(&info, keys.crypto_info().data(), sizeof info);
  std::memcpy(iv.data(), info.salt, sizeof info.salt);
  std::memcpy(iv.data() + sizeof info.salt, info.iv, sizeof info.iv);
  sequence = load64(info.rec_seq);
  const bool good =
      wc_AesInit(&aes, nullptr, INVALID_DEVID) == 0 && wc_AesGcmSetKey(&aes, info.key, sizeof info.key) == 0;
  erase(&info, sizeof info);
  if (!good) throw std::runtime_error("AES key set-up failed");
}

}  // namespace

void Aead::FreeAes::operator()(Aes* aes) const {
  wc_AesFree(aes);
  erase(aes, sizeof *aes);
  delete aes;
}

Aead::Aead(const RecordKeys& keys)
    : version_(keys.version()),
      cipher_(keys.cipher()),
      explicit_nonce_(version_ == Version::tls12 && cipher_ != Cipher::chacha20_poly1305 ? 8 : 0) {
  if (cipher_ != Cipher::chacha20_poly1305) aes_.reset(new Aes{});
  if (cipher_ == Cipher::aes_128_gcm) {
    set_up_aes<tls12_crypto_info_aes_gcm_128>(*aes_, keys, iv_, sequence_);
  } else if (cipher_ == Cipher::aes_256_gcm) {
    set_up_aes<tls12_crypto_info_aes_gcm_256>(*aes_, keys, iv_, sequence_);
  } else {
    tls12_crypto_info_chacha20_poly1305 info;
    std::memcpy(&info, keys.crypto_info().data(), sizeof info);
    std::memcpy(iv_.data(), info.iv, sizeof info.iv);
    sequence_ = load64(info.rec_seq);
    std::memcpy(&chacha_key_, info.key, sizeof info.key);
    erase(&info, sizeof info);
  }
}

Aead::~Aead() {
  erase(iv_.data(), iv_.size());
  erase(chacha_key_.data(), chacha_key_.size());
}

std::array<unsigned char, 12> Aead::nonce() const {
  std::array<unsigned char, 12> nonce = iv_;
  std::array<unsigned char, 8> sequence;
  store64(sequence.data(), sequence_);
  for (std::size_t i = 0; i < 8; ++i) {
    nonce[4 + i] =
        explicit_nonce_ != 0 ? sequence[i] : static_cast<unsigned char>(nonce[4 + i] ^ sequence[i]);
  }
  return nonce;
}

std::size_t Aead::additional_data(const char* header, std::size_t plain_size, unsigned char* to) const {
  if (version_ == Version::tls13) {
    std::memcpy(to, header, 5);
    return 5;
  }
  store64(to, sequence_);
  std::memcpy(to + 8, header, 3);
  to[11] = static_cast<unsigned char>(plain_size >> 8);
  to[12] = static_cast<unsigned char>(plain_size);
  return 13;
}

bool Aead::seal(RecordType type, std::string_view plain, char* to) {
  const bool inner_type = version_ == Version::tls13;
  const std::size_t size = plain.size() + (inner_type ? 1 : 0);
  const std::size_t length = explicit_nonce_ + size + tag_size;
  to[0] = static_cast<char>(inner_type ? RecordType::application_data : type);
  to[1] = 3;
  to[2] = 3;
  to[3] = static_cast<char>(length >> 8);
  to[4] = static_cast<char>(length);
  const auto nonce = this->nonce();
  if (explicit_nonce_ != 0) std::memcpy(to + 5, nonce.data() + 4, 8);
  char* const text = to + head();
  const char* from = plain.data();
  if (inner_type) {
    // The type is a part of the plain text, and stands behind it.
    if (from != text && !plain.empty()) std::memcpy(text, from, plain.size());
    from = text;
    text[plain.size()] = static_cast<char>(type);
  }
  std::array<unsigned char, 13> additional;
  const auto additional_size = static_cast<word32>(additional_data(to, size, additional.data()));
  int error = 0;
  if (cipher_ == Cipher::chacha20_poly1305) {
    error = wc_ChaCha20Poly1305_Encrypt(chacha_key_.data(), nonce.data(), additional.data(), additional_size,
                                        octets(from), static_cast<word32>(size), octets(text),
                                        octets(text + size));
  } else {
    error = wc_AesGcmEncrypt(aes_.get(), octets(text), octets(from), static_cast<word32>(size), nonce.data(),
                             static_cast<word32>(nonce.size()), octets(text + size), tag_size,
                             additional.data(), additional_size);
  }
  ++sequence_;
  return error == 0;
}

bool Aead::open(char* record, std::size_t size, std::string_view& plain) {
  if (size < head() + tag_size) return false;
  const std::size_t text_size = size - head() - tag_size;
  char* const text = record + head();
  auto nonce = this->nonce();
  if (explicit_nonce_ != 0) std::memcpy(nonce.data() + 4, record + 5, 8);
  std::array<unsigned char, 13> additional;
  const auto additional_size = static_cast<word32>(additional_data(record, text_size, additional.data()));
  int error = 0;
  if (cipher_ == Cipher::chacha20_poly1305) {
    error = wc_ChaCha20Poly1305_Decrypt(chacha_key_.data(), nonce.data(), additional.data(), additional_size,
                                        octets(text), static_cast<word32>(text_size),
                                        octets(text + text_size), octets(text));
  } else {
    error = wc_AesGcmDecrypt(aes_.get(), octets(text), octets(text), static_cast<word32>(text_size),
                             nonce.data(), static_cast<word32>(nonce.size()), octets(text + text_size),
                             tag_size, additional.data(), additional_size);
  }
  ++sequence_;
  plain = {text, text_size};
  return error == 0;
}

}  // namespace ringmx::tls
