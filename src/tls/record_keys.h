// SPDX-License-Identifier: GPL-3.0-or-later
// What it takes to seal and open records, in the kernel's own words: so whoever does it, the kernel or
// `Records`, works from the same octets. Nothing secret is left behind in memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "tls/settings.h"

namespace ringmx::tls {

enum class Role : std::uint8_t { server, client };
enum class Direction : std::uint8_t { receive, transmit };

// Overwrites octets, whatever the optimiser thinks of it.
void erase(void* octets, std::size_t size);

// One direction.
class RecordKeys {
 public:
  // `iv` is the static one of 12 octets; of AES-GCM in TLS 1.2 the 4 octets that do not travel.
  RecordKeys(Version version, Cipher cipher, std::string_view key, std::string_view iv,
             std::uint64_t sequence);
  RecordKeys(const RecordKeys&) = default;
  RecordKeys& operator=(const RecordKeys&) = default;
  ~RecordKeys() { erase(info_.data(), info_.size()); }

  Version version() const;
  Cipher cipher() const;
  // For setsockopt(SOL_TLS, TLS_RX or TLS_TX).
  std::span<const std::byte> crypto_info() const;

 private:
  // One of the kernel's tls12_crypto_info_*: version and cipher type in front of all of them.
  alignas(std::uint64_t) std::array<std::byte, 56> info_{};
};

// The two application traffic secrets of TLS 1.3, from which keys come.
class TrafficSecrets {
 public:
  TrafficSecrets(Cipher cipher, std::string_view receive, std::string_view transmit);
  TrafficSecrets(const TrafficSecrets&) = default;
  TrafficSecrets& operator=(const TrafficSecrets&) = default;
  ~TrafficSecrets() { erase(secrets_.data(), sizeof secrets_); }

  RecordKeys keys(Direction direction, std::uint64_t sequence = 0) const;
  // After a KeyUpdate: moves on to the next secret (RFC 8446, 7.2); its keys begin at 0.
  RecordKeys next(Direction direction);

 private:
  Cipher cipher_;
  std::uint8_t size_;
  std::array<std::array<char, 48>, 2> secrets_{};

  void expand(Direction direction, std::string_view label, std::span<char> to) const;
};

struct SessionKeys {
  RecordKeys receive;
  RecordKeys transmit;
  std::optional<TrafficSecrets> secrets;  // TLS 1.3
};

}  // namespace ringmx::tls
