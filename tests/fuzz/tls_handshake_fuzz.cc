// SPDX-License-Identifier: GPL-3.0-or-later
// A handshake of both sides in which some octets are other ones, lacking or too many; or a server that is
// sent whatever. Each input is a list of changes and then raw octets.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "tls/connection.h"
#include "tls/records.h"
#include "tls_certificate.h"

namespace tls = ringmx::tls;

namespace {

using tls::Connection;
using tls::Progress;

std::shared_ptr<const tls::ServerContext> make_server_context() {
  const tls::CheckedMaterial checked =
      tls::check_material({{{"", ringmx_fuzz::certificate}, {"", ringmx_fuzz::private_key}, {}}},
                          {"ca", std::string(ringmx_fuzz::certificate)}, 0);
  tls::ServerSettings settings;
  settings.client_certificates = tls::ClientCertificates::request;
  return std::make_shared<const tls::ServerContext>(
      checked.material, settings,
      std::make_shared<const tls::TicketKeys>(tls::TicketKeys::Secret{}, std::chrono::hours{1}));
}

std::shared_ptr<const tls::ClientContext> make_client_context(bool tls13) {
  tls::ClientSettings settings;
  settings.verify = tls::ClientSettings::Verify::none;
  settings.groups = {tls::Group::x25519};
  if (!tls13) settings.maximum = tls::Version::tls12;
  return std::make_shared<const tls::ClientContext>(settings, "");
}

void require(bool good) {
  if (!good) std::abort();
}

void feed(Connection& to, std::string_view wire) {
  while (!wire.empty() && to.progress() == Progress::want_input) {
    require(to.wanted() > 0 && to.wanted() <= 5 + 16384 + 2048);
    std::string_view portion = wire.substr(0, to.wanted());
    const std::size_t before = portion.size();
    to.feed(portion);
    // What is wanted is used, unless it was the end.
    require(portion.empty() || to.progress() != Progress::want_input);
    wire.remove_prefix(before - portion.size());
  }
  if (to.progress() == Progress::failed) {
    require(to.failure().reason != tls::Reason::none);
    require(!to.failure().text.empty() && to.failure().text.find('\n') == std::string::npos);
  }
}

// Takes the next change off the input: at an octet, another value, or cut there.
struct Change {
  std::size_t at;
  std::uint8_t value;
  bool cut;
};
Change next_change(std::string_view& input) {
  if (input.size() < 3) return {SIZE_MAX, 0, false};
  const auto octet = [&](std::size_t i) { return static_cast<std::uint8_t>(input[i]); };
  const Change change{static_cast<std::size_t>(octet(0) << 8 | octet(1)) & 0x7ff, octet(2),
                      (octet(0) & 0x80) != 0};
  input.remove_prefix(3);
  return change;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const auto server_context = make_server_context();
  static const std::array client_contexts{make_client_context(false), make_client_context(true)};
  std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.empty()) return 0;
  const unsigned mode = static_cast<unsigned char>(input[0]);
  input.remove_prefix(1);
  Connection server(server_context);
  if ((mode & 2) != 0) {
    feed(server, input);
    return 0;
  }
  Connection client(client_contexts[mode & 1], "mx.example.test");
  for (int turn = 0; turn < 8; ++turn) {
    Connection& from = turn % 2 == 0 ? client : server;
    Connection& to = turn % 2 == 0 ? server : client;
    std::string wire(from.output());
    from.clear_output();
    for (unsigned changes = mode >> 2 & 3; changes > 0; --changes) {
      const Change change = next_change(input);
      if (change.at >= wire.size()) continue;
      if (change.cut) {
        wire.resize(change.at);
      } else {
        wire[change.at] = static_cast<char>(change.value);
      }
    }
    if ((mode & 0x10) != 0 && turn == 2) wire.append(std::exchange(input, {}));
    feed(to, wire);
  }
  if (server.progress() == Progress::done && client.progress() == Progress::done) {
    // If both believe in it, they have the same keys.
    tls::Records up(client.keys(), tls::Role::client);
    tls::Records down(server.keys(), tls::Role::server);
    const std::string_view pieces[] = {"EHLO a\r\n"};
    std::string wire(up.sealed_size(8), '\0');
    up.seal(pieces, wire);
    std::span<char> span(wire);
    require(down.open(span).data == "EHLO a\r\n");
  }
  return 0;
}
