// SPDX-License-Identifier: GPL-3.0-or-later
// A ticket that was not sealed here never opens; one that was does, until it is touched. Input: as a ticket;
// and as the key file, the content and the salt of one, and a change to it.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "tls/ticket_keys.h"

namespace tls = ringmx::tls;

namespace {

constexpr std::int64_t now = 1'800'000'000;

void require(bool good) {
  if (!good) std::abort();
}

struct Ticket {
  std::array<unsigned char, 16> name{};
  std::array<unsigned char, 16> iv{};
  std::array<unsigned char, 32> mac{};
  std::vector<unsigned char> content;
  tls::TicketKeys::Envelope envelope() { return {name, iv, mac}; }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const tls::TicketKeys derived(tls::TicketKeys::random_secret(), std::chrono::hours{1});
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.size() >= 64) {
    Ticket ticket;
    std::copy_n(data, 16, ticket.name.begin());
    std::copy_n(data + 16, 16, ticket.iv.begin());
    std::copy_n(data + 32, 32, ticket.mac.begin());
    ticket.content.assign(data + 64, data + size);
    require(!derived.open(ticket.envelope(), ticket.content, now));
  }
  for (const std::size_t key_size : {std::size_t{48}, std::size_t{80}, input.size()}) {
    if (input.size() < key_size) continue;
    const auto key = tls::TicketKeys::parse(input.substr(0, key_size));
    require(key.has_value() == (key_size == 48 || key_size == 80));
    if (!key || input.size() < key_size + 31) continue;
    const tls::TicketKeys keys({*key}, std::chrono::hours{1});
    std::array<unsigned char, 28> salt;
    std::copy_n(data + key_size, 28, salt.begin());
    Ticket ticket;
    ticket.content.assign(data + key_size + 31, data + size);
    const std::vector<unsigned char> content = ticket.content;
    require(keys.seal(ticket.envelope(), ticket.content, salt, now));
    Ticket copy = ticket;
    require(keys.open(copy.envelope(), copy.content, now) && copy.content == content);
    copy = ticket;
    const std::uint8_t change = data[key_size + 30];
    const std::size_t at = data[key_size + 28] % (64 + content.size());
    unsigned char& octet = at < 16   ? copy.name[at]
                           : at < 32 ? copy.iv[at - 16]
                           : at < 64 ? copy.mac[at - 32]
                                     : copy.content[at - 64];
    octet = static_cast<unsigned char>(octet ^ change);
    require(keys.open(copy.envelope(), copy.content, now) == (change == 0));
  }
  return 0;
}
