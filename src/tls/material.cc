// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/material.h"

#include <wolfssl/ssl.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "tls/record_keys.h"

namespace ringmx::tls {
namespace {

constexpr std::int64_t day = 86400;
constexpr std::int64_t warn_before = 14 * day;

struct Free {
  void operator()(WOLFSSL_CTX* c) const { wolfSSL_CTX_free(c); }
};

const unsigned char* octets(std::string_view s) {
  return reinterpret_cast<const unsigned char*>(s.data());
}

// nullopt: no base64 where there should be.
std::optional<std::string> decode(std::string_view block) {
  std::string der(block.size(), '\0');
  const int size =
      wc_CertPemToDer(octets(block), static_cast<int>(block.size()),
                      reinterpret_cast<unsigned char*>(der.data()), static_cast<int>(der.size()), CERT_TYPE);
  if (size <= 0) return std::nullopt;
  der.resize(static_cast<std::size_t>(size));
  return der;
}

std::string lower(std::string_view name) {
  std::string text(name);
  if (text.ends_with('.')) text.pop_back();
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + ('a' - 'A'));
  }
  return text;
}

// "mx.example.org" or "*.example.org".
bool is_name(std::string_view name) {
  if (name.starts_with("*.")) name.remove_prefix(2);
  return !name.empty() && name.size() <= 253 && name.front() != '.' &&
         name.find("..") == std::string_view::npos &&
         name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-_.") == std::string_view::npos;
}

std::string join(const std::vector<std::string_view>& blocks) {
  std::string text;
  for (const std::string_view block : blocks) (text += block) += '\n';
  return text;
}

// Of a CA that wolfSSL does not take.
std::string why_not(int error) {
  switch (error) {
    case ASN_AFTER_DATE_E:
      return "it has expired";
    case ASN_BEFORE_DATE_E:
      return "it is not valid yet; is the clock right?";
    case RSA_KEY_SIZE_E:
    case ECC_KEY_SIZE_E:
      return "its key is too small";
    case ASN_UNKNOWN_OID_E:
      return "its key or its signature is of a kind that is not known here";
    default:
      break;
  }
  const char* const text = wolfSSL_ERR_reason_error_string(static_cast<unsigned long>(error));
  return "wolfSSL does not take it (" + std::string(text != nullptr ? text : "") + ", " +
         std::to_string(error) + ")";
}

// Checks one chain and key. Returns what is wrong, with the file in front, or nothing.
std::string check(const CertificateSource& source, std::int64_t now, Material::Certificate& certificate,
                  std::vector<std::string>& warnings) {
  const std::string& path = source.certificate.path;
  const auto blocks = pem_blocks(source.certificate.text, "CERTIFICATE");
  if (blocks.empty())
    return path + ": there is no certificate in it; it takes PEM (BEGIN CERTIFICATE), leaf first";

  std::string previous_issuer;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::string number =
        "certificate " + std::to_string(i + 1) + " of " + std::to_string(blocks.size());
    const auto der = decode(blocks[i]);
    const auto view = der ? parse_certificate(*der) : std::nullopt;
    if (!view) return path + ": " + number + " can't be decoded; is the file complete?";
    const std::string name = distinguished_name(view->subject);
    if (i > 0 && view->subject != previous_issuer) {
      return path + ": " + number + " (" + name +
             ") did not issue the one before it; the leaf comes first, then each one's issuer";
    }
    previous_issuer = view->issuer;
    if (view->not_after <= now) {
      warnings.push_back(path + ": " + number + " (" + name + ") has expired; renew it");
    } else if (view->not_after <= now + warn_before) {
      warnings.push_back(path + ": " + number + " (" + name + ") expires in " +
                         std::to_string((view->not_after - now + day - 1) / day) + " days; renew it");
    }
    if (view->not_before > now) {
      warnings.push_back(path + ": " + number + " (" + name + ") is not valid yet; is the clock right?");
    }
    if (i > 0) continue;
    certificate.kind = view->key;
    certificate.not_after = view->not_after;
    if (view->key == KeyKind::other) {
      return path + ": its key is of a kind that ringmx does not take; use ECDSA with P-256 or P-384, or RSA";
    }
  }

  const std::string& key_path = source.private_key.path;
  const auto keys = pem_blocks(source.private_key.text, "PRIVATE KEY");
  if (keys.empty()) return key_path + ": there is no private key in it; it takes PEM (BEGIN PRIVATE KEY)";
  if (keys.size() > 1) return key_path + ": there is more than one private key in it; leave that of " + path;
  if (keys[0].find("ENCRYPTED") != std::string_view::npos) {
    return key_path + ": the private key is encrypted; remove the passphrase (openssl pkey -in ... -out ...)";
  }

  certificate.path = path;
  certificate.chain = join(blocks);
  certificate.private_key = join(keys);
  const std::unique_ptr<WOLFSSL_CTX, Free> trial(wolfSSL_CTX_new(wolfTLS_server_method()));
  if (!trial) return path + ": out of memory";
  if (wolfSSL_CTX_use_certificate_chain_buffer(trial.get(), octets(certificate.chain),
                                               static_cast<long>(certificate.chain.size())) !=
      WOLFSSL_SUCCESS) {
    return path + ": wolfSSL does not take the certificate; keys of RSA have 2048 to 4096 bits here";
  }
  if (wolfSSL_CTX_use_PrivateKey_buffer(trial.get(), octets(certificate.private_key),
                                        static_cast<long>(certificate.private_key.size()),
                                        WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS) {
    return key_path + ": the private key can't be decoded, or is of another kind than the certificate " +
           path;
  }
  if (wolfSSL_CTX_check_private_key(trial.get()) != WOLFSSL_SUCCESS) {
    return key_path + ": this is not the private key of the certificate " + path;
  }
  return {};
}

}  // namespace

std::vector<std::string_view> pem_blocks(std::string_view text, std::string_view label) {
  static constexpr std::string_view begin = "-----BEGIN ";
  static constexpr std::string_view dashes = "-----";
  std::vector<std::string_view> blocks;
  for (std::size_t at = 0; (at = text.find(begin, at)) != std::string_view::npos;) {
    const std::size_t label_at = at + begin.size();
    const std::size_t label_end = text.find(dashes, label_at);
    if (label_end == std::string_view::npos) break;
    const std::string_view found = text.substr(label_at, label_end - label_at);
    const std::string end = "-----END " + std::string(found) + std::string(dashes);
    const std::size_t end_at = text.find(end, label_end);
    if (end_at == std::string_view::npos) break;
    if (found == label || found.ends_with(' ' + std::string(label))) {
      blocks.push_back(text.substr(at, end_at + end.size() - at));
    }
    at = end_at + end.size();
  }
  return blocks;
}

CheckedCas check_cas(const Pem& cas) {
  CheckedCas checked;
  const auto blocks = pem_blocks(cas.text, "CERTIFICATE");
  checked.count = blocks.size();
  if (blocks.empty()) {
    checked.error = cas.path + ": there is no CA certificate in it; it takes PEM (BEGIN CERTIFICATE)";
    return checked;
  }
  const std::unique_ptr<WOLFSSL_CTX, Free> trial(wolfSSL_CTX_new(wolfTLS_client_method()));
  if (!trial) {
    checked.error = cas.path + ": out of memory";
    return checked;
  }
  std::vector<std::string_view> usable;
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::string number =
        cas.path + ": CA certificate " + std::to_string(i + 1) + " of " + std::to_string(blocks.size());
    const auto der = decode(blocks[i]);
    const auto view = der ? parse_certificate(*der) : std::nullopt;
    if (!view) {
      if (checked.error.empty()) checked.error = number + " can't be decoded; is the file complete?";
      continue;
    }
    const int result = wolfSSL_CTX_load_verify_buffer(trial.get(), octets(*der),
                                                      static_cast<long>(der->size()), WOLFSSL_FILETYPE_ASN1);
    if (result == WOLFSSL_SUCCESS) {
      usable.push_back(blocks[i]);
    } else {
      checked.warnings.push_back(number + " (" + distinguished_name(view->subject) +
                                 ") is left out: " + why_not(result));
    }
  }
  if (usable.empty() && checked.error.empty()) {
    checked.error = cas.path +
                    ": none of its CA certificates can be used; name a file with one that is valid, "
                    "and has an RSA or ECDSA key";
  }
  checked.usable = usable.size();
  checked.cas = join(usable);
  return checked;
}

Material::Certificate::~Certificate() {
  erase(private_key.data(), private_key.size());
}

struct MaterialBuilder {
  static CheckedMaterial build(std::vector<CertificateSource> sources, const Pem& client_cas,
                               std::int64_t now) {
    CheckedMaterial checked;
    const auto material = std::make_shared<Material>();
    for (CertificateSource& source : sources) {
      Material::Certificate certificate;
      std::string error = check(source, now, certificate, checked.warnings);
      erase(source.private_key.text.data(), source.private_key.text.size());
      const auto index = static_cast<std::uint16_t>(material->certificates_.size());
      if (source.names.empty()) material->defaults_.push_back(index);
      for (const std::string& name : source.names) {
        std::string key = lower(name);
        if (!is_name(key)) {
          error = source.certificate.path + ": \"" + name +
                  "\" is no name; it takes mx.example.org or *.example.org";
        }
        material->by_name_[std::move(key)].push_back(index);
      }
      if (!error.empty()) checked.errors.push_back(std::move(error));
      material->certificates_.push_back(std::move(certificate));
    }
    if (sources.empty()) checked.errors.emplace_back("there is no certificate; TLS can't be offered without");
    if (!client_cas.path.empty() || !client_cas.text.empty()) {
      CheckedCas cas = check_cas(client_cas);
      if (!cas.error.empty()) checked.errors.push_back(std::move(cas.error));
      std::move(cas.warnings.begin(), cas.warnings.end(), std::back_inserter(checked.warnings));
      material->client_cas_ = std::move(cas.cas);
    }
    if (!checked.errors.empty()) return checked;
    if (material->defaults_.empty()) material->defaults_.push_back(0);
    checked.material = material;
    return checked;
  }
};

CheckedMaterial check_material(std::vector<CertificateSource> sources, const Pem& client_cas,
                               std::int64_t now) {
  return MaterialBuilder::build(std::move(sources), client_cas, now);
}

std::span<const std::uint16_t> Material::candidates(std::string_view name) const {
  if (!name.empty() && !by_name_.empty()) {
    std::string key = lower(name);
    if (const auto found = by_name_.find(key); found != by_name_.end()) return found->second;
    if (const std::size_t dot = key.find('.'); dot != std::string::npos && dot > 0) {
      key.replace(0, dot, "*");
      if (const auto found = by_name_.find(key); found != by_name_.end()) return found->second;
    }
  }
  return defaults_;
}

std::int64_t Material::not_after() const {
  std::int64_t first = std::numeric_limits<std::int64_t>::max();
  for (const Certificate& certificate : certificates_) first = std::min(first, certificate.not_after);
  return first;
}

}  // namespace ringmx::tls
