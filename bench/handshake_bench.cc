// SPDX-License-Identifier: GPL-3.0-or-later
// What a handshake costs the server: CPU time of its side alone, in memory; and what records cost in user
// space. Usage: handshake-bench CERTIFICATES, the folder tests/tls/certificates.
#include <benchmark/benchmark.h>
#include <malloc.h>
#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "tls/aead.h"
#include "tls/connection.h"
#include "tls/records.h"

namespace tls = ringmx::tls;

namespace {

using tls::Cipher;
using tls::Group;
using tls::Version;

std::string folder;

std::string read_file(const std::string& name) {
  std::ifstream in(folder + "/" + name, std::ios::binary);
  if (!in) {
    std::fprintf(stderr, "handshake-bench: can't read %s/%s\n", folder.c_str(), name.c_str());
    std::exit(1);
  }
  return {std::istreambuf_iterator<char>(in), {}};
}

std::shared_ptr<const tls::ServerContext> server_context(const std::string& name,
                                                         bool client_certificates = false) {
  tls::CheckedMaterial checked =
      tls::check_material({{{name, read_file(name + ".pem")}, {name, read_file(name + ".key")}, {}}},
                          client_certificates ? tls::Pem{"root", read_file("root.pem")} : tls::Pem{}, 0);
  tls::ServerSettings settings;
  if (client_certificates) settings.client_certificates = tls::ClientCertificates::request;
  return std::make_shared<const tls::ServerContext>(
      checked.material, settings,
      std::make_shared<const tls::TicketKeys>(tls::TicketKeys::random_secret(), std::chrono::hours{1}));
}

std::shared_ptr<const tls::ClientContext> client_context(Version version, Cipher cipher, Group group) {
  tls::ClientSettings settings;
  settings.verify = tls::ClientSettings::Verify::none;
  settings.minimum = settings.maximum = version;
  settings.ciphers = {cipher};
  settings.groups = {group};
  return std::make_shared<const tls::ClientContext>(settings, "");
}

double cpu_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

void hand_over(tls::Connection& from, tls::Connection& to) {
  std::string_view wire = from.output();
  to.feed(wire);
  from.clear_output();
}

// The seconds that the server took.
double shake_hands(tls::Connection& server, tls::Connection& client) {
  double seconds = 0;
  if (!server.output().empty()) hand_over(server, client);
  while (server.progress() == tls::Progress::want_input) {
    std::string_view wire = client.output();
    const double begin = cpu_seconds();
    server.feed(wire);
    seconds += cpu_seconds() - begin;
    client.clear_output();
    if (client.progress() == tls::Progress::want_input) hand_over(server, client);
  }
  if (server.progress() != tls::Progress::done || client.progress() != tls::Progress::done) {
    std::fprintf(stderr, "handshake-bench: %s / %s\n", server.failure().text.c_str(),
                 client.failure().text.c_str());
    std::exit(1);
  }
  return seconds;
}

void handshake(benchmark::State& state, const char* certificate, Version version, Group group, bool resumed) {
  const auto servers = server_context(certificate);
  const auto clients = client_context(version, Cipher::aes_128_gcm, group);
  std::shared_ptr<const tls::Session> session;
  if (resumed) {
    tls::Connection server(servers);
    tls::Connection client(clients, "mx.example.org");
    shake_hands(server, client);
    if (version == Version::tls13) {
      std::string ticket(server.output());
      std::string_view message;
      tls::Aead aead(client.keys().receive);
      aead.open(ticket.data(), ticket.size(), message);
      client.take_ticket(message.substr(0, message.find_last_not_of('\0')));
    }
    session = client.session();
  }
  for (auto _ : state) {
    tls::Connection client(clients, "mx.example.org", session.get());
    const double begin = cpu_seconds();
    auto server = std::make_unique<tls::Connection>(servers);
    double seconds = cpu_seconds() - begin + shake_hands(*server, client);
    if (server->facts().resumed != resumed) state.SkipWithError("not resumed");
    const double end = cpu_seconds();
    benchmark::DoNotOptimize(server->keys());
    server.reset();
    seconds += cpu_seconds() - end;
    state.SetIterationTime(seconds);
  }
}

// The heap of one connection: at its worst during the handshake, and while it waits for a first octet.
void memory(benchmark::State& state, const char* certificate, Group group) {
  const auto servers = server_context(certificate);
  const auto clients = client_context(Version::tls13, Cipher::aes_128_gcm, group);
  for (auto _ : state) {
    constexpr int count = 200;
    std::vector<std::unique_ptr<tls::Connection>> server;
    std::vector<std::unique_ptr<tls::Connection>> client;
    auto used = [begin = std::size_t{0}]() mutable {
      const std::size_t now = mallinfo2().uordblks;
      const std::size_t grown = now - begin;
      begin = now;
      return static_cast<double>(grown) / count;
    };
    for (int i = 0; i < count; ++i)
      client.push_back(std::make_unique<tls::Connection>(clients, "mx.example.org"));
    server.reserve(count);
    used();
    for (int i = 0; i < count; ++i) server.push_back(std::make_unique<tls::Connection>(servers));
    state.counters["waiting"] = used();
    for (int i = 0; i < count; ++i) {
      std::string_view wire = client[static_cast<std::size_t>(i)]->output();
      server[static_cast<std::size_t>(i)]->feed(wire);
      client[static_cast<std::size_t>(i)]->clear_output();
    }
    state.counters["handshaking"] = used() + state.counters["waiting"];
    for (int i = 0; i < count; ++i)
      shake_hands(*server[static_cast<std::size_t>(i)], *client[static_cast<std::size_t>(i)]);
    for (auto& one : server) one->clear_output();
    client.clear();
    std::vector<std::unique_ptr<tls::Records>> records;
    records.reserve(count);
    used();
    for (auto& one : server)
      records.push_back(std::make_unique<tls::Records>(one->keys(), tls::Role::server));
    state.counters["records"] = used();
  }
}

void seal(benchmark::State& state, Version version, Cipher cipher) {
  const auto servers = server_context("p256");
  tls::Connection server(servers);
  tls::Connection client(client_context(version, cipher, Group::x25519), "mx.example.org");
  shake_hands(server, client);
  tls::Records from(server.keys(), tls::Role::server);
  const std::string plain(static_cast<std::size_t>(state.range(0)), 'm');
  std::string wire(from.sealed_size(plain.size()) + 100, '\0');
  for (auto _ : state) {
    const std::string_view pieces[] = {plain};
    benchmark::DoNotOptimize(from.seal(pieces, wire));
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

void open(benchmark::State& state, Version version, Cipher cipher) {
  const auto servers = server_context("p256");
  tls::Connection server(servers);
  tls::Connection client(client_context(version, cipher, Group::x25519), "mx.example.org");
  shake_hands(server, client);
  tls::Records from(client.keys(), tls::Role::client);
  tls::Records to(server.keys(), tls::Role::server);
  const std::string plain(static_cast<std::size_t>(state.range(0)), 'm');
  const std::string_view pieces[] = {plain};
  const std::size_t size = from.sealed_size(plain.size());
  std::string wire(1000 * size, '\0');
  std::size_t left = 0;
  for (auto _ : state) {
    if (left == 0) {
      state.PauseTiming();
      for (; left < 1000; ++left) from.seal(pieces, std::span(wire).subspan(left * size, size));
      state.ResumeTiming();
    }
    std::span<char> record = std::span(wire).subspan((1000 - left--) * size, size);
    if (to.open(record).event != tls::Records::Event::data) state.SkipWithError("not opened");
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (argc != 2) {
    std::fprintf(stderr, "Usage: handshake-bench [--benchmark_...] CERTIFICATES\n");
    return 2;
  }
  folder = argv[1];
  const auto add_handshake = [](const char* name, auto... arguments) {
    benchmark::RegisterBenchmark(name, handshake, arguments...)
        ->UseManualTime()
        ->Unit(benchmark::kMicrosecond);
  };
  add_handshake("ECDSA P-256, TLS 1.3, X25519", "p256", Version::tls13, Group::x25519, false);
  add_handshake("ECDSA P-256, TLS 1.3, P-256", "p256", Version::tls13, Group::p256, false);
  add_handshake("ECDSA P-256, TLS 1.3, X25519MLKEM768", "p256", Version::tls13, Group::x25519_mlkem768,
                false);
  add_handshake("ECDSA P-256, TLS 1.2, X25519", "p256", Version::tls12, Group::x25519, false);
  add_handshake("RSA-2048, TLS 1.3, X25519", "rsa", Version::tls13, Group::x25519, false);
  add_handshake("RSA-2048, TLS 1.2, X25519", "rsa", Version::tls12, Group::x25519, false);
  add_handshake("resumed, TLS 1.3, X25519", "p256", Version::tls13, Group::x25519, true);
  add_handshake("resumed, TLS 1.2", "p256", Version::tls12, Group::x25519, true);
  for (const auto& [name, group] : {std::pair("heap, ECDSA P-256, X25519", Group::x25519),
                                    std::pair("heap, ECDSA P-256, X25519MLKEM768", Group::x25519_mlkem768)}) {
    benchmark::RegisterBenchmark(name, memory, "p256", group)->Iterations(1);
  }
  for (const auto& [name, cipher] :
       {std::pair("AES-128-GCM", Cipher::aes_128_gcm), std::pair("AES-256-GCM", Cipher::aes_256_gcm),
        std::pair("ChaCha20-Poly1305", Cipher::chacha20_poly1305)}) {
    benchmark::RegisterBenchmark((std::string("seal, ") + name).c_str(), seal, Version::tls13, cipher)
        ->Arg(100)
        ->Arg(16384);
    benchmark::RegisterBenchmark((std::string("open, ") + name).c_str(), open, Version::tls13, cipher)
        ->Arg(100)
        ->Arg(16384);
  }
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
