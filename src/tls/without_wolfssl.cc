// SPDX-License-Identifier: GPL-3.0-or-later
// Stands for what needs wolfSSL where ringmx is built without it, so that nobody else has to ask. Nothing can
// be made here, and so what is done with it can't be reached.
#include <stdexcept>

#include "tls/aead.h"
#include "tls/connection.h"
#include "tls/context.h"
#include "tls/load.h"
#include "tls/material.h"
#include "tls/record_keys.h"
#include "tls/ticket_keys.h"

namespace ringmx::tls {
namespace {

constexpr const char* why = "this ringmx was built without TLS; build one with it (docs/HACKING.md)";

[[noreturn]] void refuse() {
  throw std::runtime_error(why);
}

}  // namespace

// Files.
CheckedMaterial load_material(const ServerSettings&) {
  return {nullptr, {why}, {}};
}
LoadedCas load_cas(const ClientSettings&) {
  return {{}, {why}, {}};
}
LoadedTicketKeys load_ticket_keys(const Tickets&, const TicketKeys::Secret&) {
  return {nullptr, {why}};
}
Material::Certificate::~Certificate() = default;

// Tickets. The secret is drawn at every start; no key is ever made of it.
TicketKeys::Secret TicketKeys::random_secret() {
  return {};
}
TicketKeys::TicketKeys(const Secret&, std::chrono::seconds) {
  refuse();
}
TicketKeys::TicketKeys(std::vector<Key>, std::chrono::seconds) {
  refuse();
}
TicketKeys::~TicketKeys() = default;

// Handshakes.
std::int64_t system_clock() {
  refuse();
}
void FreeContext::operator()(WOLFSSL_CTX*) const {}
ServerContext::ServerContext(std::shared_ptr<const Material>, const ServerSettings&,
                             std::shared_ptr<const TicketKeys>, Clock) {
  refuse();
}
ClientContext::ClientContext(const ClientSettings&, std::string_view, const Material*) {
  refuse();
}
void Connection::FreeSsl::operator()(WOLFSSL*) const {}
Connection::Connection(std::shared_ptr<const ServerContext>) {
  refuse();
}
Connection::Connection(std::shared_ptr<const ClientContext>, std::string_view, const Session*) {
  refuse();
}
Connection::~Connection() = default;
Progress Connection::feed(std::string_view&) {
  refuse();
}
SessionKeys Connection::keys() const {
  refuse();
}
bool Connection::take_ticket(std::string_view) {
  refuse();
}
std::shared_ptr<const Session> Connection::session() const {
  refuse();
}
Session::~Session() = default;

// Records.
void erase(void*, std::size_t) {}
RecordKeys::RecordKeys(Version, Cipher, std::string_view, std::string_view, std::uint64_t) {
  refuse();
}
Version RecordKeys::version() const {
  refuse();
}
Cipher RecordKeys::cipher() const {
  refuse();
}
std::span<const std::byte> RecordKeys::crypto_info() const {
  refuse();
}
RecordKeys TrafficSecrets::keys(Direction, std::uint64_t) const {
  refuse();
}
RecordKeys TrafficSecrets::next(Direction) {
  refuse();
}
void Aead::FreeAes::operator()(Aes*) const {}
Aead::Aead(const RecordKeys&) {
  refuse();
}
Aead::~Aead() = default;
bool Aead::seal(RecordType, std::string_view, char*) {
  refuse();
}
bool Aead::open(char*, std::size_t, std::string_view&) {
  refuse();
}

}  // namespace ringmx::tls
