// SPDX-License-Identifier: GPL-3.0-or-later
// Certificates and keys, checked: made once for the process, at start and again on SIGHUP, and shared by all
// cores. PEM comes as text: who reads files is load.h.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tls/x509.h"

namespace ringmx::tls {

// Text and where it is from, for messages.
struct Pem {
  std::string path;
  std::string text;
};

struct CertificateSource {
  Pem certificate;
  Pem private_key;
  std::vector<std::string> names;
};

class Material {
 public:
  struct Certificate {
    std::string path;
    std::string chain;        // PEM, leaf first
    std::string private_key;  // PEM
    KeyKind kind;
    std::int64_t not_after;

    Certificate() = default;
    Certificate(Certificate&&) = default;
    Certificate& operator=(Certificate&&) = default;
    ~Certificate();
  };

  // Certificates by index: those for a name that a client asks for, or else the defaults. Never empty.
  std::span<const std::uint16_t> candidates(std::string_view name) const;
  std::span<const std::uint16_t> defaults() const { return defaults_; }
  const std::vector<Certificate>& certificates() const { return certificates_; }
  const std::string& client_cas() const { return client_cas_; }
  // The first moment at which one of the certificates is not valid any more.
  std::int64_t not_after() const;

 private:
  friend struct MaterialBuilder;
  std::vector<Certificate> certificates_;
  std::vector<std::uint16_t> defaults_;
  std::map<std::string, std::vector<std::uint16_t>, std::less<>> by_name_;  // lower case; "*.example.org" too
  std::string client_cas_;
};

struct CheckedMaterial {
  std::shared_ptr<const Material> material;  // null if there are errors
  std::vector<std::string> errors;           // "FILE: what is wrong; what to do"
  std::vector<std::string> warnings;
};

// `client_cas` is empty unless client certificates are asked for.
CheckedMaterial check_material(std::vector<CertificateSource> sources, const Pem& client_cas,
                               std::int64_t now);

// A bundle of CAs. Who has expired, or has a key that is not for verification here, is left out: wolfSSL does
// not take it.
struct CheckedCas {
  std::string cas;                    // PEM of those that can be used
  std::string error;                  // one can't be decoded, or none can be used
  std::vector<std::string> warnings;  // one for each that was left out
  std::size_t count = 0;
  std::size_t usable = 0;
};
CheckedCas check_cas(const Pem& cas);

// The blocks of PEM whose label ends so ("CERTIFICATE", "PRIVATE KEY"), each a view into `text`.
std::vector<std::string_view> pem_blocks(std::string_view text, std::string_view label);

}  // namespace ringmx::tls
