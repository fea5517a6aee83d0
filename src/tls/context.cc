// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/context.h"

#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/aes.h>
#include <wolfssl/wolfcrypt/chacha20_poly1305.h>
#include <wolfssl/wolfcrypt/curve25519.h>
#include <wolfssl/wolfcrypt/ecc.h>
#include <wolfssl/wolfcrypt/random.h>
#include <wolfssl/wolfcrypt/sha256.h>
#include <wolfssl/wolfcrypt/sha512.h>
#include <wolfssl/wolfcrypt/wc_mlkem.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <stdexcept>

#include "tls/rsa_blinding.h"

namespace ringmx::tls {
namespace {

constexpr Cipher all_ciphers[] = {Cipher::aes_128_gcm, Cipher::aes_256_gcm, Cipher::chacha20_poly1305};
constexpr Group all_groups[] = {Group::x25519_mlkem768, Group::x25519, Group::p256};

struct CipherNames {
  const char* tls13;
  const char* ecdsa;
  const char* rsa;
};

constexpr CipherNames names_of(Cipher cipher) {
  switch (cipher) {
    case Cipher::aes_128_gcm:
      return {"TLS13-AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"};
    case Cipher::aes_256_gcm:
      return {"TLS13-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"};
    case Cipher::chacha20_poly1305:
      break;
  }
  return {"TLS13-CHACHA20-POLY1305-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"};
}

const unsigned char* octets(std::string_view s) {
  return reinterpret_cast<const unsigned char*>(s.data());
}

void need(bool good, const char* what) {
  if (!good) throw std::runtime_error(std::string("wolfSSL: ") + what);
}

WolfContext make_context(WOLFSSL_METHOD* method, std::span<const Cipher> ciphers,
                         std::span<const Group> groups) {
  WolfContext context(wolfSSL_CTX_new(method));
  need(context != nullptr, "no context");
  std::string list;
  for (const Cipher cipher : ciphers) {
    const CipherNames names = names_of(cipher);
    for (const char* name : {names.tls13, names.ecdsa, names.rsa}) (list += list.empty() ? "" : ":") += name;
  }
  need(wolfSSL_CTX_set_cipher_list(context.get(), list.c_str()) == WOLFSSL_SUCCESS, "cipher suites");
  std::vector<int> numbers;
  for (const Group group : groups) numbers.push_back(static_cast<int>(group));
  need(wolfSSL_CTX_set_groups(context.get(), numbers.data(), static_cast<int>(numbers.size())) ==
           WOLFSSL_SUCCESS,
       "groups");
  wolfSSL_CTX_set_session_cache_mode(context.get(), WOLFSSL_SESS_CACHE_OFF);
  return context;
}

void set_minimum(WOLFSSL_CTX* context, Version minimum) {
  need(wolfSSL_CTX_SetMinVersion(context, minimum == Version::tls13 ? WOLFSSL_TLSV1_3 : WOLFSSL_TLSV1_2) ==
           WOLFSSL_SUCCESS,
       "minimum version");
}

void use_certificate(WOLFSSL_CTX* context, const Material::Certificate& certificate) {
  need(wolfSSL_CTX_use_certificate_chain_buffer(context, octets(certificate.chain),
                                                static_cast<long>(certificate.chain.size())) ==
               WOLFSSL_SUCCESS &&
           wolfSSL_CTX_use_PrivateKey_buffer(context, octets(certificate.private_key),
                                             static_cast<long>(certificate.private_key.size()),
                                             WOLFSSL_FILETYPE_PEM) == WOLFSSL_SUCCESS,
       "certificate");
  if (certificate.kind == KeyKind::rsa) {
    need(wolfSSL_CTX_SetDevId(context, rsa_blinding_device) == WOLFSSL_SUCCESS, "blinding");
  }
}

// The CAs to verify with.
void trust(WOLFSSL_CTX* context, std::string_view cas) {
  need(wolfSSL_CTX_load_verify_buffer(context, octets(cas), static_cast<long>(cas.size()),
                                      WOLFSSL_FILETYPE_PEM) == WOLFSSL_SUCCESS,
       "no CA certificate can be used");
}

bool contains_any(const Numbers& numbers, std::initializer_list<unsigned> wanted) {
  return std::any_of(wanted.begin(), wanted.end(), [&](unsigned n) { return numbers.contains(n); });
}

bool shares_suite13(const ClientHello& h) {
  return contains_any(h.suites, {0x1301, 0x1302, 0x1303});
}
bool shares_suite12(const ClientHello& h, KeyKind kind) {
  return kind == KeyKind::rsa ? contains_any(h.suites, {0xc02f, 0xc030, 0xcca8})
                              : contains_any(h.suites, {0xc02b, 0xc02c, 0xcca9});
}

// Whether the client can verify a signature by such a key. Who does not say can.
bool can_verify(const ClientHello& h, KeyKind kind) {
  if (h.signatures.empty()) return true;
  if (kind == KeyKind::rsa) {
    return contains_any(h.signatures, {0x0804, 0x0805, 0x0806}) ||  // rsa_pss_rsae
           (!h.tls13 && contains_any(h.signatures, {0x0401, 0x0501, 0x0601}));
  }
  if (h.tls13) return h.signatures.contains(kind == KeyKind::ecdsa_p256 ? 0x0403 : 0x0503);
  return contains_any(h.signatures, {0x0403, 0x0503, 0x0603});
}

// How good a certificate is for a client that can verify it. ECDSA costs a tenth of RSA; but in TLS 1.2 the
// list of groups is about certificates too (RFC 8422, 5.1.1), and a curve that is not in it is only worth a
// try.
int rank(const ClientHello& h, KeyKind kind) {
  if (kind == KeyKind::rsa) return 2;
  const bool curve = h.groups.empty() || h.groups.contains(kind == KeyKind::ecdsa_p256 ? 0x0017 : 0x0018);
  return h.tls13 || curve ? 3 : 1;
}

// wolfSSL wants the whole envelope in place, and the size of the content, which does not change.
int protect_ticket(WOLFSSL* ssl, unsigned char* name, unsigned char* iv, unsigned char* mac, int seal,
                   unsigned char* content, int size, int* size_out, void* context) {
  const auto* server = static_cast<const ServerContext*>(context);
  const TicketKeys::Envelope envelope{std::span<unsigned char, 16>(name, 16),
                                      std::span<unsigned char, 16>(iv, 16),
                                      std::span<unsigned char, 32>(mac, 32)};
  const std::span<unsigned char> octets(content, static_cast<std::size_t>(size));
  *size_out = size;
  if (seal == 0) {
    return server->ticket_keys()->open(envelope, octets, server->now()) ? WOLFSSL_TICKET_RET_OK
                                                                        : WOLFSSL_TICKET_RET_REJECT;
  }
  std::array<unsigned char, 28> salt;
  if (wc_RNG_GenerateBlock(wolfSSL_GetRNG(ssl), salt.data(), salt.size()) != 0 ||
      !server->ticket_keys()->seal(envelope, octets, salt, server->now())) {
    return WOLFSSL_TICKET_RET_FATAL;
  }
  return WOLFSSL_TICKET_RET_OK;
}

// wolfCrypt chooses its code for this processor when an algorithm is first used, and writes the choice down
// with no regard for other threads. So each is used once before there can be others.
bool use_every_algorithm() {
  if (wolfSSL_Init() != WOLFSSL_SUCCESS || !register_rsa_blinding()) return false;
  WC_RNG rng;
  if (wc_InitRng(&rng) != 0) return false;
  const auto use = [](auto init, auto free) {
    const bool good = init() == 0;
    free();
    return good;
  };
  wc_Sha256 sha256;
  wc_Sha384 sha384;
  wc_Sha512 sha512;
  Aes aes;
  curve25519_key x25519;
  ecc_key p256;
  MlKemKey mlkem;
  unsigned char octets[32] = {};
  unsigned char tag[16];
  const bool good =
      use([&] { return wc_InitSha256(&sha256); }, [&] { wc_Sha256Free(&sha256); }) &&
      use([&] { return wc_InitSha384(&sha384); }, [&] { wc_Sha384Free(&sha384); }) &&
      use([&] { return wc_InitSha512(&sha512); }, [&] { wc_Sha512Free(&sha512); }) &&
      use(
          [&] {
            return wc_AesInit(&aes, nullptr, INVALID_DEVID) | wc_AesGcmSetKey(&aes, octets, 16) |
                   wc_AesGcmEncrypt(&aes, octets, octets, 16, octets, 12, tag, 16, nullptr, 0);
          },
          [&] { wc_AesFree(&aes); }) &&
      wc_ChaCha20Poly1305_Encrypt(octets, octets, nullptr, 0, octets, 16, octets, tag) == 0 &&
      use([&] { return wc_curve25519_init(&x25519) | wc_curve25519_make_key(&rng, 32, &x25519); },
          [&] { wc_curve25519_free(&x25519); }) &&
      use([&] { return wc_ecc_init(&p256) | wc_ecc_make_key(&rng, 32, &p256); },
          [&] { wc_ecc_free(&p256); }) &&
      use(
          [&] {
            return wc_MlKemKey_Init(&mlkem, WC_ML_KEM_768, nullptr, INVALID_DEVID) |
                   wc_MlKemKey_MakeKey(&mlkem, &rng);
          },
          [&] { wc_MlKemKey_Free(&mlkem); });
  wc_FreeRng(&rng);
  return good;
}

void initialize() {
  static const bool good = use_every_algorithm();
  need(good, "wolfSSL does not work here");
}

}  // namespace

void FreeContext::operator()(WOLFSSL_CTX* context) const {
  wolfSSL_CTX_free(context);
}

std::int64_t system_clock() {
  return std::time(nullptr);
}

ServerContext::ServerContext(std::shared_ptr<const Material> material, const ServerSettings& settings,
                             std::shared_ptr<const TicketKeys> ticket_keys, Clock clock)
    : material_(std::move(material)),
      ticket_keys_(settings.client_certificates == ClientCertificates::none ? std::move(ticket_keys)
                                                                            : nullptr),
      minimum_(settings.minimum),
      client_certificates_(settings.client_certificates),
      clock_(clock) {
  initialize();
  for (const Material::Certificate& certificate : material_->certificates()) {
    WolfContext context = make_context(wolfTLS_server_method(), all_ciphers, all_groups);
    set_minimum(context.get(), minimum_);
    use_certificate(context.get(), certificate);
    if (client_certificates_ != ClientCertificates::none) trust(context.get(), material_->client_cas());
    if (ticket_keys_ == nullptr) {
      wolfSSL_CTX_no_ticket_TLSv13(context.get());
    } else {
      need(wolfSSL_CTX_set_TicketEncCb(context.get(), protect_ticket) == WOLFSSL_SUCCESS &&
               wolfSSL_CTX_set_TicketEncCtx(context.get(), this) == WOLFSSL_SUCCESS &&
               wolfSSL_CTX_set_timeout(
                   context.get(), static_cast<unsigned>(ticket_keys_->lifetime().count())) == WOLFSSL_SUCCESS,
           "tickets");
    }
    contexts_.push_back(std::move(context));
  }
}

ServerContext::Choice ServerContext::choose(const ClientHello& hello) const {
  const bool tls13 = hello.tls13;
  if (!tls13 && !(hello.tls12 && minimum_ == Version::tls12)) {
    return {nullptr, Reason::no_shared_version, Alert::protocol_version};
  }
  if (hello.has_protocols && !hello.offers_protocol("smtp")) {
    return {nullptr, Reason::alpn, Alert::no_application_protocol};
  }
  if (tls13 ? !shares_suite13(hello)
            : !shares_suite12(hello, KeyKind::rsa) && !shares_suite12(hello, KeyKind::ecdsa_p256)) {
    return {nullptr, Reason::no_shared_cipher, Alert::handshake_failure};
  }
  if (!hello.groups.empty() && std::none_of(std::begin(all_groups), std::end(all_groups), [&](Group group) {
        return hello.groups.contains(static_cast<unsigned>(group));
      })) {
    return {nullptr, Reason::no_shared_group, Alert::handshake_failure};
  }
  const auto& certificates = material_->certificates();
  Reason reason = Reason::no_shared_signature;
  const auto best = [&](std::span<const std::uint16_t> indices) {
    WOLFSSL_CTX* found = nullptr;
    int found_rank = 0;
    for (const std::uint16_t index : indices) {
      const KeyKind kind = certificates[index].kind;
      if (!can_verify(hello, kind)) continue;
      if (!tls13 && !shares_suite12(hello, kind)) {
        reason = Reason::no_shared_cipher;
      } else if (rank(hello, kind) > found_rank) {
        found_rank = rank(hello, kind);
        found = contexts_[index].get();
      }
    }
    return found;
  };
  // A client that can't use those of the name it asks for is better off with another one's than in clear
  // text: few mail servers verify.
  WOLFSSL_CTX* context = best(material_->candidates(hello.name));
  if (context == nullptr) context = best(material_->defaults());
  if (context == nullptr) return {nullptr, reason, Alert::handshake_failure};
  return {context, Reason::none, Alert::none};
}

ClientContext::ClientContext(const ClientSettings& settings, std::string_view cas, const Material* own)
    : name_(settings.name), verifies_(settings.verify != ClientSettings::Verify::none) {
  initialize();
  const std::span<const Cipher> ciphers =
      settings.ciphers.empty() ? all_ciphers : std::span(settings.ciphers);
  std::vector<Group> groups = settings.groups;
  if (groups.empty()) groups.assign(std::begin(all_groups), std::end(all_groups));
  const bool tls13 = settings.maximum == Version::tls13;
  if (!tls13) std::erase(groups, Group::x25519_mlkem768);
  need(!groups.empty(), "no group for TLS 1.2");
  context_ = make_context(tls13 ? wolfTLS_client_method() : wolfTLSv1_2_client_method(), ciphers, groups);
  if (tls13) {
    set_minimum(context_.get(), settings.minimum);
    // The best one, and X25519 for those who do not know it: no server is to ask for another hello.
    key_shares_.push_back(groups.front());
    if (groups.front() != Group::x25519 &&
        std::find(groups.begin(), groups.end(), Group::x25519) != groups.end()) {
      key_shares_.push_back(Group::x25519);
    }
  }
  if (verifies_) trust(context_.get(), cas);
  if (own != nullptr) use_certificate(context_.get(), own->certificates().front());
}

}  // namespace ringmx::tls
