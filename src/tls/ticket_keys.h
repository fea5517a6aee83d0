// SPDX-License-Identifier: GPL-3.0-or-later
// Session tickets that every core opens, and with key files every host, without sharing anything but this.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

namespace ringmx::tls {

// Immutable; any number of threads may use it at once.
class TicketKeys {
 public:
  using Secret = std::array<unsigned char, 32>;

  // Keys that are derived from a secret, a new one for each `lifetime`; the previous one still opens. The
  // process draws one secret and keeps the object over reloads.
  TicketKeys(const Secret& secret, std::chrono::seconds lifetime);
  static Secret random_secret();

  // What is in a key file: 48 or 80 octets, as nginx takes them. nullopt: it has another size.
  struct Key {
    std::array<unsigned char, 16> name;
    Secret secret;
  };
  static std::optional<Key> parse(std::string_view file);
  // The first one seals, all open.
  TicketKeys(std::vector<Key> keys, std::chrono::seconds lifetime);

  TicketKeys(const TicketKeys&) = delete;
  TicketKeys& operator=(const TicketKeys&) = delete;
  ~TicketKeys();

  std::chrono::seconds lifetime() const { return lifetime_; }

  // What stands around the ticket's content on the wire, in wolfSSL's layout.
  struct Envelope {
    std::span<unsigned char, 16> name;
    std::span<unsigned char, 16> iv;
    std::span<unsigned char, 32> mac;
  };
  // `salt` is random. The content is encrypted in place; false: it could not be.
  bool seal(const Envelope& envelope, std::span<unsigned char> content,
            std::span<const unsigned char, 28> salt, std::int64_t now) const;
  // False: no ticket of ours, or too old.
  bool open(const Envelope& envelope, std::span<unsigned char> content, std::int64_t now) const;

 private:
  std::chrono::seconds lifetime_;
  Secret secret_{};
  std::vector<Key> keys_;  // of files

  Key key_of_epoch(std::uint64_t epoch) const;
  std::optional<Key> find(std::span<const unsigned char, 16> name, std::int64_t now) const;
};

}  // namespace ringmx::tls
