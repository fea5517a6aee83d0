// SPDX-License-Identifier: GPL-3.0-or-later
#include "tls/connection.h"

#include <wolfssl/ssl.h>
#include <wolfssl/wolfcrypt/hash.h>

#include <algorithm>
#include <cassert>
#include <new>
#include <stdexcept>
#include <utility>

#include "tls/aead.h"
#include "tls/client_hello.h"
#include "tls/control.h"
#include "tls/x509.h"

namespace ringmx::tls {
namespace {

constexpr std::size_t header_size = 5;
constexpr std::size_t max_record = 16384;
constexpr std::size_t max_hello = 16384;  // with post-quantum shares they have 2 KiB
constexpr std::string_view protocol = "smtp";

struct SuiteName {
  std::string_view name;
  Cipher cipher;
};
constexpr SuiteName suites[] = {
    {"TLS_AES_128_GCM_SHA256", Cipher::aes_128_gcm},
    {"TLS_AES_256_GCM_SHA384", Cipher::aes_256_gcm},
    {"TLS_CHACHA20_POLY1305_SHA256", Cipher::chacha20_poly1305},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Cipher::aes_128_gcm},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Cipher::aes_256_gcm},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", Cipher::chacha20_poly1305},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Cipher::aes_128_gcm},
    {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Cipher::aes_256_gcm},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Cipher::chacha20_poly1305},
};

Group group_of(std::string_view wolfssl_name) {
  if (wolfssl_name == "X25519MLKEM768") return Group::x25519_mlkem768;
  if (wolfssl_name == "X25519") return Group::x25519;
  if (wolfssl_name == "SECP256R1") return Group::p256;
  return Group::none;
}

bool is_address(std::string_view host) {
  return host.find(':') != std::string_view::npos ||
         host.find_first_not_of("0123456789.") == std::string_view::npos;
}

struct Cause {
  Reason reason;
  Alert alert;  // to send, if wolfSSL has sent none and nothing is encrypted yet
};

Cause cause_of(int error) {
  switch (error) {
    case VERSION_ERROR:
    case UNSUPPORTED_PROTO_VERSION:
      return {Reason::no_shared_version, Alert::protocol_version};
    case MATCH_SUITE_ERROR:
    case UNSUPPORTED_SUITE:
      return {Reason::no_shared_cipher, Alert::handshake_failure};
    case KEY_SHARE_ERROR:
    case ECC_CURVE_ERROR:
    case ECC_CURVETYPE_ERROR:
      return {Reason::no_shared_group, Alert::handshake_failure};
    case UNKNOWN_ALPN_PROTOCOL_NAME_E:
      return {Reason::alpn, Alert::no_application_protocol};
    case VERIFY_FINISHED_ERROR:
    case VERIFY_MAC_ERROR:
    case VERIFY_SIGN_ERROR:
    case DECRYPT_ERROR:
    case BAD_BINDER:
    case AES_GCM_AUTH_E:
    case MAC_CMP_FAILED_E:
    case SIG_VERIFY_E:
      return {Reason::bad_record, Alert::decrypt_error};
    case NO_PEER_CERT:
      return {Reason::no_certificate, Alert::certificate_required};
    case ASN_NO_SIGNER_E:
    case ASN_SELF_SIGNED_E:
      return {Reason::unknown_ca, Alert::unknown_ca};
    case ASN_BEFORE_DATE_E:
    case ASN_AFTER_DATE_E:
      return {Reason::expired_certificate, Alert::certificate_expired};
    case DOMAIN_NAME_MISMATCH:
    case IPADDR_MISMATCH:
      return {Reason::wrong_name, Alert::bad_certificate};
    case ASN_PARSE_E:
    case ASN_SIG_CONFIRM_E:
    case ASN_SIG_HASH_E:
    case ASN_SIG_KEY_E:
    case ASN_PATHLEN_SIZE_E:
    case ASN_PATHLEN_INV_E:
    case NOT_CA_ERROR:
    case VERIFY_CERT_ERROR:
    case MAX_CHAIN_ERROR:
    case UNSUPPORTED_CERTIFICATE:
    case RSA_KEY_SIZE_E:
    case WC_KEY_SIZE_E:
    case ECC_KEY_SIZE_E:
    case KEYUSE_SIGNATURE_E:
    case KEYUSE_ENCIPHER_E:
    case EXTKEYUSE_AUTH_E:
      return {Reason::bad_certificate, Alert::bad_certificate};
    case MEMORY_E:
    case MEMORY_ERROR:
    case RNG_FAILURE_E:
    case RSA_SIGN_FAULT:
    case BAD_TICKET_ENCRYPT:
    case NO_PRIVATE_KEY:
    case BUILD_MSG_ERROR:
    case ENCRYPT_ERROR:
      return {Reason::internal, Alert::internal_error};
    case UNKNOWN_RECORD_TYPE:
    case OUT_OF_ORDER_E:
    case SANITY_MSG_E:
    case DUPLICATE_MSG_E:
    case UNKNOWN_HANDSHAKE_TYPE:
      return {Reason::decode, Alert::unexpected_message};
    case PEER_KEY_ERROR:
    case ECC_PEERKEY_ERROR:
    case BAD_KEY_SHARE_DATA:
    case PSK_KEY_ERROR:
    case INVALID_PARAMETER:
      return {Reason::decode, Alert::illegal_parameter};
    default:
      return {Reason::decode, Alert::decode_error};
  }
}

std::string printable(std::string_view octets) {
  std::string text;
  for (const char c : octets) text += c >= 0x20 && c < 0x7f ? c : '.';
  return text;
}

}  // namespace

void Connection::FreeSsl::operator()(WOLFSSL* ssl) const {
  wolfSSL_free(ssl);
}

Session::~Session() {
  wolfSSL_SESSION_free(session_);
}

struct Connection::Callbacks {
  static int receive(WOLFSSL*, char* to, int size, void* context) {
    auto* const self = static_cast<Connection*>(context);
    const auto wanted = static_cast<std::size_t>(size);
    if (self->input_.empty()) {
      self->wanted_ = wanted;
      return WOLFSSL_CBIO_ERR_WANT_READ;
    }
    const std::size_t n = self->input_.copy(to, wanted);
    self->input_.remove_prefix(n);
    const std::string_view tail = std::string_view(to, n).substr(n - std::min(n, self->last_.size()));
    std::rotate(self->last_.begin(), self->last_.begin() + static_cast<std::ptrdiff_t>(tail.size()),
                self->last_.end());
    tail.copy(self->last_.data() + self->last_.size() - tail.size(), tail.size());
    return static_cast<int>(n);
  }

  static int send(WOLFSSL*, char* from, int size, void* context) {
    auto* const self = static_cast<Connection*>(context);
    self->output_.append(from, static_cast<std::size_t>(size));
    self->has_sent_ = true;
    return size;
  }

  static int secret(WOLFSSL*, int id, const unsigned char* secret, int size, void* context) {
    auto* const self = static_cast<Connection*>(context);
    if (id != CLIENT_TRAFFIC_SECRET && id != SERVER_TRAFFIC_SECRET) return 0;
    const bool ours = (id == SERVER_TRAFFIC_SECRET) == (self->server_ != nullptr);
    auto& to = self->secrets_[static_cast<std::size_t>(ours ? Direction::transmit : Direction::receive)];
    if (size < 0 || static_cast<std::size_t>(size) > to.size()) return -1;
    std::copy_n(secret, size, to.begin());
    self->secret_size_ = static_cast<std::uint8_t>(size);
    return 0;
  }

  // Called with each error, and with the leaf where there was none. 1: go on.
  static int verify(int good, WOLFSSL_X509_STORE_CTX* store) {
    auto* const self = static_cast<Connection*>(store->userCtx);
    if (good == 0 && self->verify_error_ == 0) self->verify_error_ = store->error;
    if (store->totalCerts > 0) self->present(store->certs[0].buffer, store->certs[0].length);
    return good != 0 || self->lets_in_anybody() ? 1 : 0;
  }
};

// Whatever certificate they show.
bool Connection::lets_in_anybody() const {
  return server_ ? server_->client_certificates() == ClientCertificates::request : !client_->verifies();
}

void Connection::present(const unsigned char* der, std::size_t size) {
  if (!facts_.certificate) {
    const std::string_view octets(reinterpret_cast<const char*>(der), size);
    PeerCertificate& certificate = facts_.certificate.emplace();
    if (const auto view = parse_certificate(octets)) {
      certificate.subject = distinguished_name(view->subject);
      certificate.issuer = distinguished_name(view->issuer);
      certificate.serial = hexadecimal(view->serial);
    }
    const auto fingerprint = [&](wc_HashType hash, std::size_t length) {
      std::array<unsigned char, 32> digest;
      if (wc_Hash(hash, der, static_cast<word32>(size), digest.data(), static_cast<word32>(length)) != 0) {
        return std::string();
      }
      return hexadecimal({reinterpret_cast<const char*>(digest.data()), length});
    };
    certificate.der = octets;
    certificate.sha1 = fingerprint(WC_HASH_TYPE_SHA, 20);
    certificate.sha256 = fingerprint(WC_HASH_TYPE_SHA256, 32);
  }
}

Connection::Connection(std::shared_ptr<const ServerContext> context) : server_(std::move(context)) {}

Connection::Connection(std::shared_ptr<const ClientContext> context, std::string_view host,
                       const Session* resume)
    : client_(std::move(context)) {
  begin(host);
  // A session whose ticket has expired is refused by wolfSSL, and may already be half in place.
  if (resume != nullptr && wolfSSL_set_session(ssl_.get(), resume->get()) != WOLFSSL_SUCCESS) begin(host);
  std::string_view nothing;
  advance(nothing);
}

// A client's, up to its ClientHello.
void Connection::begin(std::string_view host) {
  ssl_.reset(wolfSSL_new(client_->context()));
  if (!ssl_) throw std::bad_alloc();
  WOLFSSL* const ssl = ssl_.get();
  const std::string name = client_->name().empty() ? std::string(host) : client_->name();
  bool good = set_up(ssl) && wolfSSL_UseSessionTicket(ssl) == WOLFSSL_SUCCESS;
  for (const Group group : client_->key_shares()) {
    good = good && wolfSSL_UseKeyShare(ssl, static_cast<word16>(group)) == WOLFSSL_SUCCESS;
  }
  if (!name.empty() && !is_address(name)) {
    facts_.name = name;
    good = good && wolfSSL_UseSNI(ssl, WOLFSSL_SNI_HOST_NAME, name.data(),
                                  static_cast<word16>(name.size())) == WOLFSSL_SUCCESS;
  }
  // Where nothing is verified, what was presented is still a fact.
  wolfSSL_set_verify(ssl, WOLFSSL_VERIFY_PEER, Callbacks::verify);
  if (client_->verifies()) good = good && wolfSSL_check_domain_name(ssl, name.c_str()) == WOLFSSL_SUCCESS;
  if (!good) throw std::runtime_error("wolfSSL: can't set up a connection to " + name);
}

Connection::~Connection() {
  erase(secrets_.data(), sizeof secrets_);
}

bool Connection::set_up(WOLFSSL* ssl) {
  wolfSSL_SSLSetIORecv(ssl, Callbacks::receive);
  wolfSSL_SSLSetIOSend(ssl, Callbacks::send);
  wolfSSL_SetIOReadCtx(ssl, this);
  wolfSSL_SetIOWriteCtx(ssl, this);
  wolfSSL_SetCertCbCtx(ssl, this);
  wolfSSL_set_tls13_secret_cb(ssl, Callbacks::secret, this);
  std::string name(protocol);
  return wolfSSL_UseALPN(ssl, name.data(), static_cast<word32>(name.size()),
                         WOLFSSL_ALPN_FAILED_ON_MISMATCH) == WOLFSSL_SUCCESS;
}

Progress Connection::feed(std::string_view& wire) {
  if (progress_ != Progress::want_input) return progress_;
  if (client_ && record_.size() < header_size) {
    record_ += wire.substr(0, header_size - record_.size());
    if (!may_be_header()) refuse_header();
    if (progress_ == Progress::failed) return progress_;
  }
  if (!ssl_) {
    if (!gather_hello(wire)) return progress_;
    const auto hello = parse_client_hello(std::string_view(message_).substr(4, hello_size()));
    if (hello) {
      begin(*hello);
    } else {
      fail(Reason::decode, Alert::decode_error, "the ClientHello is malformed");
    }
    if (progress_ == Progress::failed) return progress_;
    std::string().swap(record_);
    // wolfSSL wants a message's header in one record; so it gets records of its own.
    const std::string message = std::exchange(message_, {});
    std::string records;
    for (std::size_t at = 0; at < message.size(); at += max_record) {
      const std::string_view part = std::string_view(message).substr(at, max_record);
      records.append({static_cast<char>(RecordType::handshake), 3, 1, static_cast<char>(part.size() >> 8),
                      static_cast<char>(part.size())});
      records.append(part);
    }
    std::string_view all = records;
    advance(all);
    if (progress_ != Progress::want_input || wire.empty()) return progress_;
  }
  advance(wire);
  return progress_;
}

std::size_t Connection::hello_size() const {
  const auto octet = [this](std::size_t i) {
    return static_cast<std::size_t>(static_cast<unsigned char>(message_[i]));
  };
  return octet(1) << 16 | octet(2) << 8 | octet(3);
}

// True once the ClientHello is whole. What comes is looked at as early as can be: whoever does not speak TLS
// is told at the first octets.
bool Connection::gather_hello(std::string_view& wire) {
  while (!wire.empty()) {
    const std::size_t n = std::min(wanted_, wire.size());
    record_.append(wire.substr(0, n));
    wire.remove_prefix(n);
    wanted_ -= n;
    if (wanted_ > 0) {
      // Who speaks something else may have said all that it has to say.
      if (record_.size() < header_size && !may_be_header()) refuse_header();
      return false;
    }
    if (record_.size() == header_size) {
      if (!begin_record()) return false;
      continue;
    }
    if (RecordType{static_cast<std::uint8_t>(record_[0])} == RecordType::alert) {
      fail(Reason::alert_from_peer, Alert::none, "the client began with it");
      failure_.alert = Alert{static_cast<std::uint8_t>(record_.back())};
      return false;
    }
    message_.append(record_, header_size);
    record_.clear();
    wanted_ = header_size;
    if (message_[0] != 1) {
      fail(Reason::decode, Alert::unexpected_message, "the first message is no ClientHello");
      return false;
    }
    if (message_.size() < 4) continue;
    if (hello_size() > max_hello) {
      fail(Reason::decode, Alert::decode_error, "the ClientHello is too long");
      return false;
    }
    if (message_.size() >= 4 + hello_size()) return true;
  }
  return false;
}

// So far. A server's first record is one of these, too.
bool Connection::may_be_header() const {
  const RecordType type{static_cast<std::uint8_t>(record_[0])};
  const bool possible = type == RecordType::handshake || (type == RecordType::alert && message_.empty());
  return possible && (record_.size() < 2 || record_[1] == 3);
}

bool Connection::begin_record() {
  const auto octet = [this](std::size_t i) { return static_cast<unsigned char>(record_[i]); };
  const std::size_t length = static_cast<std::size_t>(octet(3) << 8 | octet(4));
  const bool alert = RecordType{octet(0)} == RecordType::alert;
  wanted_ = length;
  if (may_be_header() && (alert ? length == 2 : length > 0 && length <= max_record)) return true;
  refuse_header();
  return false;
}

void Connection::refuse_header() {
  const auto octet = [this](std::size_t i) { return static_cast<unsigned char>(record_[i]); };
  if (!message_.empty()) {
    fail(Reason::decode, Alert::unexpected_message, "a record that is no part of a ClientHello");
  } else if (client_) {
    fail(Reason::not_tls, Alert::none, "this is not TLS: \"" + printable(record_) + "\"");
  } else if (octet(0) >= 0x80 && record_.size() == header_size && octet(2) == 1) {
    fail(Reason::no_shared_version, Alert::protocol_version, "the client speaks SSL 2.0");
  } else {
    fail(Reason::not_tls, Alert::unexpected_message, "this is not TLS: \"" + printable(record_) + "\"");
  }
}

void Connection::begin(const ClientHello& hello) {
  facts_.name = printable(hello.name);
  const ServerContext::Choice choice = server_->choose(hello);
  if (choice.context == nullptr) {
    fail(choice.reason, choice.alert, [&]() -> std::string_view {
      switch (choice.reason) {
        case Reason::no_shared_version:
          return "the client does not speak a version of TLS that is allowed here";
        case Reason::alpn:
          return "the client wants another protocol than SMTP (ALPN)";
        case Reason::no_shared_cipher:
          return "the client has none of our cipher suites";
        case Reason::no_shared_group:
          return "the client has none of our groups";
        default:
          return "the client can verify none of our certificates (signature_algorithms)";
      }
    }());
    return;
  }
  ssl_.reset(wolfSSL_new(choice.context));
  if (!ssl_ || !set_up(ssl_.get())) {
    ssl_.reset();
    fail(Reason::internal, Alert::internal_error, "wolfSSL can't set up a connection");
    return;
  }
  if (server_->client_certificates() != ClientCertificates::none) {
    const bool required = server_->client_certificates() == ClientCertificates::require;
    wolfSSL_set_verify(ssl_.get(), WOLFSSL_VERIFY_PEER | (required ? WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       Callbacks::verify);
  }
}

void Connection::advance(std::string_view& wire) {
  input_ = wire;
  const int result = server_ ? wolfSSL_accept(ssl_.get()) : wolfSSL_connect(ssl_.get());
  wire = std::exchange(input_, {});
  // wolfSSL adds the CAs of a chain to those of the context, that all its connections share: also one that
  // verify() has let pass although it is forged. A chain is judged within one call, and after it each
  // connection is to find what was configured.
  wolfSSL_CertManagerUnloadIntermediateCerts(wolfSSL_CTX_GetCertManager(wolfSSL_get_SSL_CTX(ssl_.get())));
  if (result == WOLFSSL_SUCCESS) {
    finish();
    return;
  }
  const int error = wolfSSL_get_error(ssl_.get(), result);
  if (error != WOLFSSL_ERROR_WANT_READ) fail_by_wolfssl(error);
}

void Connection::finish() {
  progress_ = Progress::done;
  wanted_ = header_size;
  WOLFSSL* const ssl = ssl_.get();
  facts_.version = wolfSSL_version(ssl) == TLS1_3_VERSION ? Version::tls13 : Version::tls12;
  const std::string_view suite = wolfSSL_get_cipher(ssl);
  const auto* known =
      std::find_if(std::begin(suites), std::end(suites), [&](const SuiteName& s) { return s.name == suite; });
  if (known == std::end(suites)) {
    fail(Reason::internal, Alert::none, "wolfSSL has chosen a cipher suite that was not offered");
    return;
  }
  facts_.suite = known->name;
  facts_.cipher = known->cipher;
  facts_.resumed = wolfSSL_session_reused(ssl) != 0;
  if (const char* const curve = wolfSSL_get_curve_name(ssl); curve != nullptr) facts_.group = group_of(curve);
  if (facts_.resumed && facts_.version == Version::tls12) facts_.group = Group::none;
  char* name = nullptr;
  word16 size = 0;
  if (wolfSSL_ALPN_GetProtocol(ssl, &name, &size) == WOLFSSL_SUCCESS &&
      std::string_view(name, size) == protocol) {
    facts_.protocol = protocol;
  }
  if (facts_.certificate) facts_.certificate->verified = verify_error_ == 0;
}

void Connection::fail(Reason reason, Alert alert, std::string_view what) {
  progress_ = Progress::failed;
  wanted_ = 0;
  failure_.reason = reason;
  failure_.alert = alert;
  failure_.text = what;
  // Nothing is encrypted before the first flight: an alert can be written by hand.
  if (alert != Alert::none && !has_sent_) {
    const auto content = alert_content(alert);
    output_.append({static_cast<char>(RecordType::alert), 3, 3, 0, 2, content[0], content[1]});
  }
}

void Connection::fail_by_wolfssl(int error) {
  WOLFSSL_ALERT_HISTORY history;
  wolfSSL_get_alert_history(ssl_.get(), &history);
  // Some clients of TLS 1.3, OpenSSL among them, refuse a certificate in clear text, which wolfSSL does not
  // expect. A record in TLS 1.3 never is one of this type, and in TLS 1.2 it has more octets.
  const std::string_view last(last_.data(), last_.size());
  const bool in_clear = RecordType{static_cast<std::uint8_t>(last[0])} == RecordType::alert && last[1] == 3 &&
                        last[3] == 0 && last[4] == 2;
  if (in_clear || error == FATAL_ERROR || error == ZERO_RETURN || error == ALERT_COUNT_E) {
    const Alert alert{static_cast<std::uint8_t>(in_clear ? last[6] : history.last_rx.code)};
    fail(Reason::alert_from_peer, Alert::none, "the peer gave up");
    failure_.alert = alert;
    return;
  }
  const bool refused = verify_error_ != 0 && facts_.certificate && !lets_in_anybody();
  const Cause cause = cause_of(refused ? verify_error_ : error);
  const bool sent = history.last_tx.code >= 0;
  has_sent_ = has_sent_ || sent;
  const char* const text = wolfSSL_ERR_reason_error_string(static_cast<unsigned long>(error));
  const bool can_send = !has_sent_;
  fail(cause.reason, cause.alert, text != nullptr ? text : "");
  if (sent) {
    failure_.alert = Alert{static_cast<std::uint8_t>(history.last_tx.code)};
  } else if (!can_send) {
    failure_.alert = Alert::none;
  }
  failure_.text += " (" + std::to_string(error) + ')';
}

SessionKeys Connection::keys() const {
  if (progress_ != Progress::done) throw std::logic_error("keys before the handshake is done");
  WOLFSSL* const ssl = ssl_.get();
  word64 received = 0;
  word64 sent = 0;
  // They return 1 for a sequence number of 0.
  if (wolfSSL_GetPeerSequenceNumber(ssl, &received) < 0 || wolfSSL_GetSequenceNumber(ssl, &sent) < 0) {
    throw std::runtime_error("wolfSSL: no sequence numbers");
  }
  if (facts_.version == Version::tls13) {
    const TrafficSecrets secrets(facts_.cipher, {secrets_[0].data(), secret_size_},
                                 {secrets_[1].data(), secret_size_});
    return {secrets.keys(Direction::receive, received), secrets.keys(Direction::transmit, sent), secrets};
  }
  const auto keys = [&](bool servers, std::uint64_t sequence) {
    const unsigned char* const key =
        servers ? wolfSSL_GetServerWriteKey(ssl) : wolfSSL_GetClientWriteKey(ssl);
    const unsigned char* const iv = servers ? wolfSSL_GetServerWriteIV(ssl) : wolfSSL_GetClientWriteIV(ssl);
    return RecordKeys(
        Version::tls12, facts_.cipher,
        {reinterpret_cast<const char*>(key), static_cast<std::size_t>(wolfSSL_GetKeySize(ssl))},
        {reinterpret_cast<const char*>(iv), facts_.cipher == Cipher::chacha20_poly1305 ? 12U : 4U}, sequence);
  };
  const bool server = server_ != nullptr;
  return {keys(!server, received), keys(server, sent), std::nullopt};
}

// wolfSSL reads records, and whoever does them now has opened this one. So it is sealed once more, by the
// keys that wolfSSL still has; that the peer's may have changed meanwhile does not matter.
bool Connection::take_ticket(std::string_view message) {
  assert(client_ != nullptr && progress_ == Progress::done);
  Aead aead(keys().receive);
  std::string record(aead.head() + message.size() + aead.tail(), '\0');
  if (!aead.seal(RecordType::handshake, message, record.data())) return false;
  input_ = record;
  char none = 0;
  const int result = wolfSSL_read(ssl_.get(), &none, sizeof none);
  const bool read = std::exchange(input_, {}).empty();
  clear_output();  // an alert, if it did not like it
  has_ticket_ = read && wolfSSL_get_error(ssl_.get(), result) == WOLFSSL_ERROR_WANT_READ;
  return has_ticket_;
}

std::shared_ptr<const Session> Connection::session() const {
  if (!client_ || progress_ != Progress::done) return nullptr;
  if (facts_.version == Version::tls13 && !has_ticket_) return nullptr;
  WOLFSSL_SESSION* const session = wolfSSL_get1_session(ssl_.get());
  return session != nullptr ? std::make_shared<const Session>(session) : nullptr;
}

}  // namespace ringmx::tls
