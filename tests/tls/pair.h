// SPDX-License-Identifier: GPL-3.0-or-later
// A server and a client in memory.
#pragma once

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tls/connection.h"
#include "tls/context.h"
#include "tls/material.h"
#include "tls/settings.h"
#include "tls/ticket_keys.h"

namespace tls = ringmx::tls;

namespace tls_test {

// Where the certificates are; RINGMX_CERTIFICATES by the build.
inline std::string read_file(const std::string& name) {
  std::ifstream in(std::string(RINGMX_CERTIFICATES) + "/" + name, std::ios::binary);
  EXPECT_TRUE(in.good()) << name;
  return {std::istreambuf_iterator<char>(in), {}};
}

inline tls::CertificateSource source(const std::string& name, std::vector<std::string> names = {}) {
  return {
      {name + ".pem", read_file(name + ".pem")}, {name + ".key", read_file(name + ".key")}, std::move(names)};
}

constexpr std::int64_t now = 1'800'000'000;

inline std::shared_ptr<const tls::Material> material(std::vector<tls::CertificateSource> sources,
                                                     const std::string& client_cas = "") {
  tls::Pem cas;
  if (!client_cas.empty()) cas = {client_cas, read_file(client_cas)};
  tls::CheckedMaterial checked = tls::check_material(std::move(sources), cas, now);
  EXPECT_TRUE(checked.errors.empty()) << checked.errors.front();
  return checked.material;
}

inline std::shared_ptr<const tls::Material> material(const std::string& name) {
  return material({source(name)});
}

inline std::shared_ptr<const tls::TicketKeys> ticket_keys(unsigned char seed = 1) {
  tls::TicketKeys::Secret secret{};
  secret.fill(seed);
  return std::make_shared<const tls::TicketKeys>(secret, std::chrono::hours{1});
}

inline std::shared_ptr<const tls::ServerContext> server_context(std::shared_ptr<const tls::Material> material,
                                                                const tls::ServerSettings& settings = {}) {
  return std::make_shared<const tls::ServerContext>(std::move(material), settings, ticket_keys());
}

inline std::shared_ptr<const tls::ClientContext> client_context(tls::ClientSettings settings = {},
                                                                const std::string& ca = "root.pem",
                                                                const tls::Material* own = nullptr) {
  if (settings.verify == tls::ClientSettings::Verify::system_cas) {
    settings.verify = tls::ClientSettings::Verify::ca_file;
  }
  return std::make_shared<const tls::ClientContext>(settings, read_file(ca), own);
}

// Hands output over in portions of just what the other side wants, as a receiver for kTLS does, but no more
// than `most` octets at a time. True if all of it was used.
inline bool deliver(tls::Connection& from, tls::Connection& to, std::size_t most = 1 << 20) {
  const std::string wire(from.output());
  from.clear_output();
  std::string_view rest = wire;
  while (!rest.empty() && to.progress() == tls::Progress::want_input) {
    const std::size_t wanted = to.wanted();
    if (wanted == 0) return false;
    const std::string_view portion = rest.substr(0, std::min(wanted, most));
    std::string_view left = portion;
    to.feed(left);
    if (!left.empty() && to.progress() == tls::Progress::want_input) return false;
    rest.remove_prefix(portion.size() - left.size());
    if (!left.empty()) break;
  }
  return rest.empty();
}

class Pair {
 public:
  Pair(std::shared_ptr<const tls::ServerContext> server_context,
       std::shared_ptr<const tls::ClientContext> client_context, std::string_view host = "mx.example.org",
       const tls::Session* resume = nullptr)
      : server(std::move(server_context)), client(std::move(client_context), host, resume) {}

  // True once both are through. What the server sends after its handshake (tickets) stays in its output().
  bool handshake(std::size_t most = 1 << 20) {
    for (int turn = 0; turn < 10; ++turn) {
      if (!deliver(client, server, most) || server.progress() == tls::Progress::failed) break;
      if (server.progress() == tls::Progress::done && client.progress() == tls::Progress::done) return true;
      if (!deliver(server, client, most) || client.progress() == tls::Progress::failed) break;
      if (server.progress() == tls::Progress::done && client.progress() == tls::Progress::done) return true;
    }
    // Let the one that is left read the other's alert.
    deliver(client, server);
    deliver(server, client);
    return false;
  }

  tls::Connection server;
  tls::Connection client;
};

}  // namespace tls_test
