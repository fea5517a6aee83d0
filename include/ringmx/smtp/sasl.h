// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "ringmx/smtp/mechanism.h"

namespace ringmx::smtp {

// The longest line of an authentication, with its CRLF (RFC 4954 section 4).
inline constexpr std::size_t sasl_line_limit = 12288;

// The longest user, and the longest password that is no token, in octets: RFC 4616 section 2 has servers take
// 255. It bounds what is kept, and asked about, of clients whom nobody knows yet.
inline constexpr std::size_t sasl_field_limit = 1024;

// Overwrites octets so that no optimiser leaves it out.
void wipe(char* octets, std::size_t size) noexcept;

// Octets that are wiped when they are not needed any more.
class Secret {
 public:
  Secret() noexcept = default;
  explicit Secret(std::string_view octets);
  Secret(Secret&& o) noexcept : octets_(std::move(o.octets_)), size_(std::exchange(o.size_, 0)) {}
  Secret& operator=(Secret&& o) noexcept {
    clear();
    octets_ = std::move(o.octets_);
    size_ = std::exchange(o.size_, 0);
    return *this;
  }
  ~Secret() { clear(); }
  void clear() noexcept;
  [[nodiscard]] std::string_view view() const noexcept { return {octets_.get(), size_}; }
  // What base64 stands for; nothing if it is none.
  [[nodiscard]] static std::optional<Secret> decoded(std::string_view base64);

 private:
  std::unique_ptr<char[]> octets_;
  std::size_t size_ = 0;
};

// What a client says by PLAIN, in base64.
[[nodiscard]] Secret plain_response(std::string_view user, std::string_view password);

// What a client has presented, for who decides about it.
struct SaslCredentials {
  std::string_view method;         // as nginx calls it for auth_http: LOGIN is "plain", too
  std::string_view authorization;  // as whom it wants to act; empty: as `user`
  std::string_view user;      // may be empty with EXTERNAL and OAUTHBEARER: the certificate or token knows
  std::string_view password;  // of CRAM-MD5 the digest, of OAUTHBEARER and XOAUTH2 the token
  std::string_view salt;      // of CRAM-MD5 the challenge
};

// One exchange of AUTH (RFC 4954 section 4): lines in, replies and finally credentials out. Whether they are
// good is somebody else's business. A user is printable; it and a password that is no token have at most
// sasl_field_limit octets; and neither a user nor a password has a NUL, or is empty where its mechanism wants
// one.
class SaslExchange {
 public:
  enum class State : std::uint8_t {
    responding,  // reply() is a challenge (334); the client's response is next
    complete,    // credentials() are there
    failed,      // reply() says why (4xx or 5xx)
  };
  // `challenge`: of CRAM-MD5, "<unique@host>" (RFC 2195 section 2), which the owner makes since it takes
  // randomness.
  explicit SaslExchange(Mechanism mechanism, std::string challenge = {})
      : mechanism_(mechanism), challenge_(std::move(challenge)) {}

  // First. `initial_response`: of the AUTH command, if it has one.
  State begin(std::optional<std::string_view> initial_response);
  // A line of the client, without its end.
  State respond(std::string_view line);
  // They who decide say no to the credentials, by `reply`. With OAuth a client first gets a challenge that
  // says so, and the reply after its response (RFC 7628 section 3.2.2); else the exchange has failed.
  State refuse(std::string_view reply);

  [[nodiscard]] std::string_view reply() const noexcept { return reply_; }  // wire form
  [[nodiscard]] const SaslCredentials& credentials() const noexcept { return credentials_; }

 private:
  State challenge(std::string_view text);
  State fail(std::string_view reply);
  State take(std::string_view base64);
  State take_plain();
  State take_login(Secret response);
  State take_cram_md5();
  State take_external();
  State take_oauthbearer();
  State take_xoauth2();

  Mechanism mechanism_;
  bool named_ = false;  // LOGIN: user_ is there
  std::string challenge_;
  std::string reply_;
  std::string refusal_;  // due after the next response
  Secret user_;          // LOGIN's, OAUTHBEARER's
  Secret response_;
  SaslCredentials credentials_;  // points into all of these
};

}  // namespace ringmx::smtp
