// SPDX-License-Identifier: GPL-3.0-or-later
// What can be configured about TLS, and the words for what is negotiated. Plain types.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ringmx::tls {

enum class Version : std::uint16_t { tls12 = 0x0303, tls13 = 0x0304 };
// The AEAD; what else TLS 1.2 puts into a suite is always ECDHE and the certificate's kind.
enum class Cipher : std::uint8_t { aes_128_gcm, aes_256_gcm, chacha20_poly1305 };
enum class Group : std::uint16_t { none = 0, p256 = 0x0017, x25519 = 0x001d, x25519_mlkem768 = 0x11ec };

constexpr std::string_view name_of(Version v) {
  return v == Version::tls13 ? "TLSv1.3" : "TLSv1.2";
}
constexpr std::string_view name_of(Group g) {
  switch (g) {
    case Group::p256:
      return "P-256";
    case Group::x25519:
      return "X25519";
    case Group::x25519_mlkem768:
      return "X25519MLKEM768";
    case Group::none:
      break;
  }
  return "";
}

// A chain and its key, PEM. With names it is for clients that ask for one of them by SNI ("mx.example.org",
// "*.example.org": one label); without, it is a default. Several for the same name, or several defaults, are
// an RSA and an ECDSA one: each client gets what it can verify.
struct CertificateFiles {
  std::string certificate;
  std::string private_key;  // may be the same file
  std::vector<std::string> names;
};

// request: a client may show one, and is let in whatever it shows; require: only with a verified one.
enum class ClientCertificates : std::uint8_t { none, request, require };

// Who encrypts records. automatic: the kernel, where it does so fast; upstreams: likewise, but not those of
// clients; require: nobody else; off: never it.
enum class Offload : std::uint8_t { automatic, upstreams, require, off };

struct Tickets {
  bool enabled = true;
  std::chrono::seconds lifetime{std::chrono::hours{2}};  // RFC 8446 allows seven days
  // As nginx's ssl_session_ticket_key, 48 or 80 octets each: the first seals, all open. None: keys are made
  // up at start, and change with each lifetime.
  std::vector<std::string> key_files;
};

struct ServerSettings {
  std::vector<CertificateFiles> certificates;
  Version minimum = Version::tls12;
  ClientCertificates client_certificates = ClientCertificates::none;
  std::string client_ca_file;  // PEM, any number of CAs
  Tickets tickets;
  Offload offload = Offload::automatic;
};

struct ClientSettings {
  enum class Verify : std::uint8_t { none, system_cas, ca_file };
  Verify verify = Verify::system_cas;
  std::string ca_file;
  std::string name;  // to verify and to ask for (SNI), instead of the host name that was configured
  Version minimum = Version::tls12;
  Version maximum = Version::tls13;
  Offload offload = Offload::automatic;
  // Best first; none: all that there are.
  std::vector<Cipher> ciphers;
  std::vector<Group> groups;
};

}  // namespace ringmx::tls
