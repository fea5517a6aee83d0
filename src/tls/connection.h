// SPDX-License-Identifier: GPL-3.0-or-later
// One handshake, of either side: bytes in, bytes out. Once it is done, keys() is all that is needed to go on,
// for the kernel or for `Records`; the connection can be destroyed.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tls/context.h"
#include "tls/failure.h"
#include "tls/record_keys.h"
#include "tls/settings.h"

struct WOLFSSL;
struct WOLFSSL_SESSION;

namespace ringmx::tls {

struct PeerCertificate {
  bool verified = false;
  std::string subject;  // RFC 4514
  std::string issuer;
  std::string serial;  // upper case hexadecimal, as are the fingerprints
  std::string sha1;
  std::string sha256;
  std::string der;
};

struct Facts {
  Version version = Version::tls12;
  Cipher cipher = Cipher::aes_128_gcm;
  std::string_view suite;     // IANA's name
  Group group = Group::none;  // none: a resumed session of TLS 1.2
  bool resumed = false;
  std::string name;                            // SNI
  std::string_view protocol;                   // ALPN: "smtp" or nothing
  std::optional<PeerCertificate> certificate;  // what the peer presented
};

// A session that a client can resume.
class Session {
 public:
  explicit Session(WOLFSSL_SESSION* session) : session_(session) {}
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  ~Session();
  WOLFSSL_SESSION* get() const { return session_; }

 private:
  WOLFSSL_SESSION* session_;
};

enum class Progress : std::uint8_t { want_input, done, failed };

class Connection {
 public:
  explicit Connection(std::shared_ptr<const ServerContext> context);
  // Its ClientHello is in output() at once. `host` is what to ask for and to verify, unless the settings have
  // a name. `resume` is offered to the server, unless its time is over. Throws std::runtime_error.
  Connection(std::shared_ptr<const ClientContext> context, std::string_view host,
             const Session* resume = nullptr);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  // How many octets are needed next: never more than the rest of the present record. To leave what comes
  // after the handshake to the kernel, receive just so many.
  std::size_t wanted() const { return wanted_; }
  // Takes what it can use off the front of `wire`. After done or failed, take output() once more.
  Progress feed(std::string_view& wire);
  Progress progress() const { return progress_; }

  // What is to be sent, an alert after a failure included.
  std::string_view output() const { return output_; }
  void clear_output() { output_.clear(); }

  const Failure& failure() const { return failure_; }
  const Facts& facts() const { return facts_; }  // complete once done; after a failure, what is known

  // Once done. The sequence numbers stand behind what output() has had and feed() has taken.
  SessionKeys keys() const;

  // A client's session; null if the server gave no ticket. In TLS 1.3 tickets come after the handshake, among
  // the records, if at all and whenever the server likes: give such a message to take_ticket().
  std::shared_ptr<const Session> session() const;
  // A NewSessionTicket, whole, with its header. False: it is of no use.
  bool take_ticket(std::string_view message);

 private:
  struct Callbacks;

  struct FreeSsl {
    void operator()(WOLFSSL* ssl) const;
  };
  std::shared_ptr<const ServerContext> server_;
  std::shared_ptr<const ClientContext> client_;
  std::unique_ptr<WOLFSSL, FreeSsl> ssl_;
  // A server creates its WOLFSSL when the whole ClientHello is here: until then a connection costs next to
  // nothing, and the certificate can be chosen by what it says.
  std::string record_;   // the one that is coming; of a client the header of the first
  std::string message_;  // what the ones before brought
  std::string_view input_;
  std::array<char, 7> last_{};  // octets that wolfSSL had: what an alert in clear text takes
  std::size_t wanted_ = 5;
  std::string output_;
  bool has_ticket_ = false;
  bool has_sent_ = false;
  Progress progress_ = Progress::want_input;
  int verify_error_ = 0;
  Failure failure_;
  Facts facts_;
  std::array<std::array<char, 48>, 2> secrets_{};  // by Direction
  std::uint8_t secret_size_ = 0;

  bool gather_hello(std::string_view& wire);
  bool begin_record();
  bool may_be_header() const;
  void refuse_header();
  std::size_t hello_size() const;
  void begin(const ClientHello& hello);
  bool set_up(WOLFSSL* ssl);
  void begin(std::string_view host);
  bool lets_in_anybody() const;
  void present(const unsigned char* der, std::size_t size);
  void advance(std::string_view& wire);
  void finish();
  void fail(Reason reason, Alert alert, std::string_view what);
  void fail_by_wolfssl(int error);
};

}  // namespace ringmx::tls
