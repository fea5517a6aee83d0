// SPDX-License-Identifier: GPL-3.0-or-later
// Each ticket has a key of its own, HMAC-SHA-256(secret, salt and time), for AES-256-GCM with a nonce of
// zeros: so no number of tickets wears out a key that many hosts share. The envelope's fields hold
//   name: the key's; for derived keys 8 octets that are the process's, and the epoch's number
//   iv:   16 octets of salt
//   mac:  16 octets of tag, 12 of salt, 4 with the time of issue
#include "tls/ticket_keys.h"

#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/hmac.h>
#include <wolfssl/wolfcrypt/random.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "tls/record_keys.h"

namespace ringmx::tls {
namespace {

using Digest = std::array<unsigned char, 32>;
constexpr std::int64_t clock_step = 60;  // seconds that another host's clock may be ahead

Digest hmac(std::span<const unsigned char> key, std::span<const unsigned char> data) {
  Digest digest;
  Hmac hmac;
  const bool good = wc_HmacInit(&hmac, nullptr, INVALID_DEVID) == 0 &&
                    wc_HmacSetKey(&hmac, WC_SHA256, key.data(), static_cast<word32>(key.size())) == 0 &&
                    wc_HmacUpdate(&hmac, data.data(), static_cast<word32>(data.size())) == 0 &&
                    wc_HmacFinal(&hmac, digest.data()) == 0;
  wc_HmacFree(&hmac);
  if (!good) throw std::runtime_error("HMAC failed");
  return digest;
}

Digest labelled(const TicketKeys::Secret& secret, std::string_view label, std::uint64_t number) {
  std::array<unsigned char, 32> data{};
  std::copy(label.begin(), label.end(), data.begin());
  for (std::size_t i = 0; i < 8; ++i) data[31 - i] = static_cast<unsigned char>(number >> (8 * i));
  return hmac(secret, data);
}

// The AES-GCM operation on the content, under the ticket's own key.
class TicketCipher {
 public:
  TicketCipher(const TicketKeys::Secret& secret, const TicketKeys::Envelope& envelope) {
    std::array<unsigned char, 32> salt;
    std::copy(envelope.iv.begin(), envelope.iv.end(), salt.begin());
    std::copy(envelope.mac.begin() + 16, envelope.mac.end(), salt.begin() + 16);
    Digest key = hmac(secret, salt);
    good_ =
        wc_AesInit(&aes_, nullptr, INVALID_DEVID) == 0 && wc_AesGcmSetKey(&aes_, key.data(), key.size()) == 0;
    erase(key.data(), key.size());
  }
  TicketCipher(const TicketCipher&) = delete;
  TicketCipher& operator=(const TicketCipher&) = delete;
  ~TicketCipher() { wc_AesFree(&aes_); }

  bool seal(const TicketKeys::Envelope& e, std::span<unsigned char> content) {
    return good_ &&
           wc_AesGcmEncrypt(&aes_, content.data(), content.data(), static_cast<word32>(content.size()), nonce,
                            sizeof nonce, e.mac.data(), 16, e.name.data(), 16) == 0;
  }
  bool open(const TicketKeys::Envelope& e, std::span<unsigned char> content) {
    return good_ &&
           wc_AesGcmDecrypt(&aes_, content.data(), content.data(), static_cast<word32>(content.size()), nonce,
                            sizeof nonce, e.mac.data(), 16, e.name.data(), 16) == 0;
  }

 private:
  static constexpr unsigned char nonce[12] = {};
  Aes aes_;
  bool good_ = false;
};

}  // namespace

TicketKeys::TicketKeys(const Secret& secret, std::chrono::seconds lifetime)
    : lifetime_(std::max(lifetime, std::chrono::seconds{1})), secret_(secret) {}

TicketKeys::TicketKeys(std::vector<Key> keys, std::chrono::seconds lifetime)
    : lifetime_(std::max(lifetime, std::chrono::seconds{1})), keys_(std::move(keys)) {
  if (keys_.empty()) throw std::logic_error("no ticket key");
}

TicketKeys::~TicketKeys() {
  erase(secret_.data(), secret_.size());
  for (Key& key : keys_) erase(&key, sizeof key);
}

TicketKeys::Secret TicketKeys::random_secret() {
  Secret secret;
  WC_RNG rng;
  const bool good = wc_InitRng(&rng) == 0 && wc_RNG_GenerateBlock(&rng, secret.data(), secret.size()) == 0;
  wc_FreeRng(&rng);
  if (!good) throw std::runtime_error("no random numbers");
  return secret;
}

std::optional<TicketKeys::Key> TicketKeys::parse(std::string_view file) {
  if (file.size() != 48 && file.size() != 80) return std::nullopt;
  Key key;
  file.copy(reinterpret_cast<char*>(key.name.data()), key.name.size());
  static constexpr std::string_view label = "ringmx ticket key file";
  key.secret = hmac({reinterpret_cast<const unsigned char*>(file.data()) + 16, file.size() - 16},
                    {reinterpret_cast<const unsigned char*>(label.data()), label.size()});
  return key;
}

TicketKeys::Key TicketKeys::key_of_epoch(std::uint64_t epoch) const {
  Key key;
  const Digest process = labelled(secret_, "ringmx ticket name", 0);
  std::copy_n(process.begin(), 8, key.name.begin());
  for (std::size_t i = 0; i < 8; ++i) key.name[15 - i] = static_cast<unsigned char>(epoch >> (8 * i));
  key.secret = labelled(secret_, "ringmx ticket key", epoch);
  return key;
}

std::optional<TicketKeys::Key> TicketKeys::find(std::span<const unsigned char, 16> name,
                                                std::int64_t now) const {
  for (const Key& key : keys_) {
    if (std::equal(name.begin(), name.end(), key.name.begin())) return key;
  }
  if (!keys_.empty()) return std::nullopt;
  std::uint64_t epoch = 0;
  for (std::size_t i = 8; i < 16; ++i) epoch = epoch << 8 | name[i];
  const auto current = static_cast<std::uint64_t>(now / lifetime_.count());
  if (epoch != current && epoch + 1 != current) return std::nullopt;
  const Key key = key_of_epoch(epoch);
  if (!std::equal(name.begin(), name.end(), key.name.begin())) return std::nullopt;
  return key;
}

bool TicketKeys::seal(const Envelope& envelope, std::span<unsigned char> content,
                      std::span<const unsigned char, 28> salt, std::int64_t now) const {
  Key key = keys_.empty() ? key_of_epoch(static_cast<std::uint64_t>(now / lifetime_.count())) : keys_.front();
  std::copy(key.name.begin(), key.name.end(), envelope.name.begin());
  std::copy_n(salt.begin(), 16, envelope.iv.begin());
  std::copy_n(salt.begin() + 16, 12, envelope.mac.begin() + 16);
  for (std::size_t i = 0; i < 4; ++i) envelope.mac[31 - i] = static_cast<unsigned char>(now >> (8 * i));
  const bool good = TicketCipher(key.secret, envelope).seal(envelope, content);
  erase(&key, sizeof key);
  return good;
}

bool TicketKeys::open(const Envelope& envelope, std::span<unsigned char> content, std::int64_t now) const {
  std::uint32_t issued = 0;
  for (std::size_t i = 28; i < 32; ++i) issued = issued << 8 | envelope.mac[i];
  // Modulo 2^32, as the time was cut to that.
  const auto age = static_cast<std::int32_t>(static_cast<std::uint32_t>(now) - issued);
  if (age < -clock_step || age >= lifetime_.count()) return false;
  std::optional<Key> key = find(envelope.name, now);
  if (!key) return false;
  const bool good = TicketCipher(key->secret, envelope).open(envelope, content);
  erase(&*key, sizeof *key);
  return good;
}

}  // namespace ringmx::tls
