// SPDX-License-Identifier: GPL-3.0-or-later
// One direction of record protection by wolfCrypt (RFC 8446 5.2; RFC 5288, RFC 7905 for TLS 1.2).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string_view>

#include "tls/control.h"
#include "tls/record_keys.h"

struct Aes;  // wolfCrypt's

namespace ringmx::tls {

class Aead {
 public:
  static constexpr std::size_t tag_size = 16;

  explicit Aead(const RecordKeys& keys);
  Aead(const Aead&) = delete;
  Aead& operator=(const Aead&) = delete;
  ~Aead();

  // Octets of a record in front of the ciphertext, and behind it.
  std::size_t head() const { return 5 + explicit_nonce_; }
  std::size_t tail() const { return tag_size + (version_ == Version::tls13 ? 1 : 0); }
  std::uint64_t sequence() const { return sequence_; }

  // Writes a record of `plain` to `to`, which has room for head() + plain.size() + tail(). `plain` may
  // already stand where its ciphertext goes, and must not overlap otherwise.
  bool seal(RecordType type, std::string_view plain, char* to);
  // Opens a whole record where it stands. False: it is not authentic. `plain` is within it; in TLS 1.3 it
  // still has the type and padding behind it.
  bool open(char* record, std::size_t size, std::string_view& plain);

 private:
  Version version_;
  Cipher cipher_;
  std::uint8_t explicit_nonce_;  // 8, where the nonce travels
  std::uint64_t sequence_;
  std::array<unsigned char, 12> iv_{};
  struct FreeAes {
    void operator()(Aes* aes) const;
  };
  std::unique_ptr<Aes, FreeAes> aes_;  // null: ChaCha20-Poly1305
  std::array<unsigned char, 32> chacha_key_;

  std::array<unsigned char, 12> nonce() const;
  // In TLS 1.3 the header that goes first, in TLS 1.2 the sequence number and a header with the plain size.
  std::size_t additional_data(const char* header, std::size_t plain_size, unsigned char* to) const;
};

}  // namespace ringmx::tls
