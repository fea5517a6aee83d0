// SPDX-License-Identifier: GPL-3.0-or-later
// The kernel splits the 12 octets of an AES-GCM nonce into a salt of 4 and an iv of 8. In TLS 1.3 these are
// the static iv, which is combined with the sequence number; in TLS 1.2 the 8 are what the next record
// carries in clear, for which everybody takes the sequence number.
#include "tls/record_keys.h"

#include <linux/tls.h>
#include <wolfssl/wolfcrypt/hash.h>
#include <wolfssl/wolfcrypt/kdf.h>

#include <cstring>
#include <stdexcept>

namespace ringmx::tls {
namespace {

constexpr std::string_view protocol = "tls13 ";

struct Shape {
  unsigned short kernel_name;
  std::uint8_t key;
  std::uint8_t secret;  // of the suite's hash
  int hash;
};

constexpr Shape shape_of(Cipher cipher) {
  switch (cipher) {
    case Cipher::aes_128_gcm:
      return {TLS_CIPHER_AES_GCM_128, 16, 32, WC_SHA256};
    case Cipher::aes_256_gcm:
      return {TLS_CIPHER_AES_GCM_256, 32, 48, WC_SHA384};
    case Cipher::chacha20_poly1305:
      break;
  }
  return {TLS_CIPHER_CHACHA20_POLY1305, 32, 32, WC_SHA256};
}

const unsigned char* octets(std::string_view s) {
  return reinterpret_cast<const unsigned char*>(s.data());
}

void store_sequence(unsigned char* to, std::uint64_t sequence) {
  for (int i = 7; i >= 0; --i, sequence >>= 8) to[i] = static_cast<unsigned char>(sequence);
}

template <typename Info>
void fill_aes_gcm(Info& info, Version version, std::string_view key, std::string_view iv,
                  std::uint64_t sequence) {
  std::memcpy(info.key, key.data(), sizeof info.key);
  std::memcpy(info.salt, iv.data(), sizeof info.salt);
  store_sequence(info.rec_seq, sequence);
  if (version == Version::tls13) {
    std::memcpy(info.iv, iv.data() + sizeof info.salt, sizeof info.iv);
  } else {
    std::memcpy(info.iv, info.rec_seq, sizeof info.iv);
  }
}

void fill_chacha20(tls12_crypto_info_chacha20_poly1305& info, std::string_view key, std::string_view iv,
                   std::uint64_t sequence) {
  std::memcpy(info.key, key.data(), sizeof info.key);
  std::memcpy(info.iv, iv.data(), sizeof info.iv);
  store_sequence(info.rec_seq, sequence);
}

static_assert(sizeof(tls12_crypto_info_aes_gcm_256) == 56 &&
              sizeof(tls12_crypto_info_chacha20_poly1305) == 56);

}  // namespace

void erase(void* octets, std::size_t size) {
  explicit_bzero(octets, size);
}

RecordKeys::RecordKeys(Version version, Cipher cipher, std::string_view key, std::string_view iv,
                       std::uint64_t sequence) {
  const Shape shape = shape_of(cipher);
  const bool implicit = version == Version::tls12 && cipher != Cipher::chacha20_poly1305;
  if (key.size() != shape.key || iv.size() != (implicit ? 4 : 12)) {
    throw std::logic_error("a record key of the wrong size");
  }
  const auto fill = [&](auto info, auto filler) {
    info.info = {static_cast<unsigned short>(version), shape.kernel_name};
    filler(info);
    std::memcpy(info_.data(), &info, sizeof info);
    erase(&info, sizeof info);
  };
  switch (cipher) {
    case Cipher::aes_128_gcm:
      fill(tls12_crypto_info_aes_gcm_128{},
           [&](auto& info) { fill_aes_gcm(info, version, key, iv, sequence); });
      break;
    case Cipher::aes_256_gcm:
      fill(tls12_crypto_info_aes_gcm_256{},
           [&](auto& info) { fill_aes_gcm(info, version, key, iv, sequence); });
      break;
    case Cipher::chacha20_poly1305:
      fill(tls12_crypto_info_chacha20_poly1305{},
           [&](auto& info) { fill_chacha20(info, key, iv, sequence); });
      break;
  }
}

Version RecordKeys::version() const {
  tls_crypto_info header;
  std::memcpy(&header, info_.data(), sizeof header);
  return Version{header.version};
}

Cipher RecordKeys::cipher() const {
  tls_crypto_info header;
  std::memcpy(&header, info_.data(), sizeof header);
  switch (header.cipher_type) {
    case TLS_CIPHER_AES_GCM_128:
      return Cipher::aes_128_gcm;
    case TLS_CIPHER_AES_GCM_256:
      return Cipher::aes_256_gcm;
    default:
      return Cipher::chacha20_poly1305;
  }
}

std::span<const std::byte> RecordKeys::crypto_info() const {
  return std::span(info_).first(cipher() == Cipher::aes_128_gcm ? sizeof(tls12_crypto_info_aes_gcm_128)
                                                                : info_.size());
}

TrafficSecrets::TrafficSecrets(Cipher cipher, std::string_view receive, std::string_view transmit)
    : cipher_(cipher), size_(shape_of(cipher).secret) {
  if (receive.size() != size_ || transmit.size() != size_) {
    throw std::logic_error("a traffic secret of the wrong size");
  }
  receive.copy(secrets_[0].data(), size_);
  transmit.copy(secrets_[1].data(), size_);
}

void TrafficSecrets::expand(Direction direction, std::string_view label, std::span<char> to) const {
  const auto& secret = secrets_[static_cast<std::size_t>(direction)];
  const int error = wc_Tls13_HKDF_Expand_Label(
      reinterpret_cast<unsigned char*>(to.data()), static_cast<word32>(to.size()),
      octets({secret.data(), size_}), size_, octets(protocol), static_cast<word32>(protocol.size()),
      octets(label), static_cast<word32>(label.size()), nullptr, 0, shape_of(cipher_).hash);
  if (error != 0) throw std::runtime_error("HKDF failed");
}

RecordKeys TrafficSecrets::keys(Direction direction, std::uint64_t sequence) const {
  std::array<char, 32> key;
  std::array<char, 12> iv;
  const std::size_t key_size = shape_of(cipher_).key;
  expand(direction, "key", std::span(key).first(key_size));
  expand(direction, "iv", iv);
  const RecordKeys keys(Version::tls13, cipher_, {key.data(), key_size}, {iv.data(), iv.size()}, sequence);
  erase(key.data(), key.size());
  erase(iv.data(), iv.size());
  return keys;
}

RecordKeys TrafficSecrets::next(Direction direction) {
  std::array<char, 48> secret;
  expand(direction, "traffic upd", std::span(secret).first(size_));
  secrets_[static_cast<std::size_t>(direction)] = secret;
  erase(secret.data(), secret.size());
  return keys(direction);
}

}  // namespace ringmx::tls
