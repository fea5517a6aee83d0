// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/load.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <optional>
#include <utility>

#include "tls/record_keys.h"

namespace ringmx::tls {
namespace {

constexpr std::size_t max_file = std::size_t{8} << 20;

std::optional<std::string> read(const std::string& path, std::vector<std::string>& errors) {
  const auto fail = [&](const std::string& what) {
    errors.push_back(path + ": " + what);
    return std::nullopt;
  };
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return fail(std::string("can't be read: ") + std::strerror(errno));
  std::string text;
  ssize_t n = 0;
  do {
    const std::size_t size = text.size();
    text.resize(size + 65536);
    n = ::read(file, text.data() + size, text.size() - size);
    text.resize(size + static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  } while (n > 0 && text.size() <= max_file);
  const int error = errno;
  close(file);
  if (n < 0) return fail(std::string("can't be read: ") + std::strerror(error));
  if (text.size() > max_file) return fail("is larger than 8 MiB; that can't be right");
  return text;
}

// Where distributions keep the CAs that they trust.
constexpr const char* system_cas[] = {
    "/etc/ssl/certs/ca-certificates.crt",                 // Debian, Ubuntu, Arch, Gentoo
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",  // Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",                             // openSUSE
    "/etc/ssl/cert.pem",                                  // Alpine
};

}  // namespace

CheckedMaterial load_material(const ServerSettings& settings) {
  std::vector<std::string> errors;
  std::vector<CertificateSource> sources;
  for (const CertificateFiles& files : settings.certificates) {
    auto certificate = read(files.certificate, errors);
    auto private_key = read(files.private_key, errors);
    if (certificate && private_key) {
      sources.push_back({{files.certificate, std::move(*certificate)},
                         {files.private_key, std::move(*private_key)},
                         files.names});
    }
  }
  Pem client_cas;
  if (settings.client_certificates != ClientCertificates::none) {
    client_cas.path = settings.client_ca_file;
    if (auto text = read(settings.client_ca_file, errors)) client_cas.text = std::move(*text);
  }
  if (!errors.empty()) return {nullptr, std::move(errors), {}};
  return check_material(std::move(sources), client_cas, std::time(nullptr));
}

LoadedCas load_cas(const ClientSettings& settings) {
  LoadedCas loaded;
  if (settings.verify == ClientSettings::Verify::ca_file) {
    if (auto text = read(settings.ca_file, loaded.errors)) {
      CheckedCas checked = check_cas({settings.ca_file, std::move(*text)});
      if (!checked.error.empty()) loaded.errors.push_back(std::move(checked.error));
      loaded.warnings = std::move(checked.warnings);
      loaded.cas = std::move(checked.cas);
    }
  } else if (settings.verify == ClientSettings::Verify::system_cas) {
    for (const char* path : system_cas) {
      std::vector<std::string> ignored;
      auto text = read(path, ignored);
      if (!text) continue;
      CheckedCas checked = check_cas({path, std::move(*text)});
      // Whoever made the file knows better than to hear of each.
      if (checked.usable == 0) {
        loaded.errors.push_back(std::move(checked.error));
      } else if (checked.usable < checked.count) {
        loaded.warnings.push_back(std::string(path) + ": " + std::to_string(checked.count - checked.usable) +
                                  " of the system's " + std::to_string(checked.count) +
                                  " CA certificates can't be used, and are left out");
      }
      loaded.cas = std::move(checked.cas);
      return loaded;
    }
    loaded.errors.emplace_back(
        "the system has no CA certificates to verify upstreams with; install ca-certificates, or name a CA "
        "file");
  }
  return loaded;
}

LoadedTicketKeys load_ticket_keys(const Tickets& tickets, const TicketKeys::Secret& secret) {
  LoadedTicketKeys loaded;
  if (!tickets.enabled) return loaded;
  std::vector<TicketKeys::Key> keys;
  for (const std::string& path : tickets.key_files) {
    auto text = read(path, loaded.errors);
    if (!text) continue;
    if (const auto key = TicketKeys::parse(*text)) {
      keys.push_back(*key);
    } else {
      loaded.errors.push_back(path + ": has " + std::to_string(text->size()) +
                              " octets; a ticket key file has 48 or 80 (openssl rand -out FILE 80)");
    }
    erase(text->data(), text->size());
  }
  if (!loaded.errors.empty()) return loaded;
  if (keys.empty()) {
    loaded.keys = std::make_shared<const TicketKeys>(secret, tickets.lifetime);
  } else {
    loaded.keys = std::make_shared<const TicketKeys>(std::move(keys), tickets.lifetime);
  }
  return loaded;
}

}  // namespace ringmx::tls
