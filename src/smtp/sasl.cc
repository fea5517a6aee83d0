// SPDX-License-Identifier: GPL-3.0-or-later
#include "ringmx/smtp/sasl.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "ringmx/smtp/base64.h"
#include "smtp/ascii.h"

// Choices. A response that is base64 but no message of its mechanism is 501 5.5.2 as bad base64 is: it is not
// a matter of who the client is. LOGIN's user may come as an initial response, as many clients send it. A
// password must not be empty: for LDAP a bind without one is anonymous, and succeeds (RFC 4513
// section 5.1.2). A user has no control characters (RFC 4013 section 2.3): it goes into other protocols.
// Users and passwords of a length that nobody has are malformed; a token may fill the line.

namespace ringmx::smtp {
namespace {

constexpr std::array<std::string_view, mechanism_count> names = {"PLAIN",    "LOGIN",       "CRAM-MD5",
                                                                 "EXTERNAL", "OAUTHBEARER", "XOAUTH2"};
constexpr std::array<std::string_view, mechanism_count> methods = {"plain",    "plain",       "cram-md5",
                                                                   "external", "oauthbearer", "xoauth2"};

constexpr std::string_view not_base64 = "501 5.5.2 Not base64\r\n";
constexpr std::string_view malformed = "501 5.5.2 Malformed authentication response\r\n";
constexpr std::string_view cancelled = "501 5.7.0 Authentication cancelled\r\n";
constexpr std::string_view no_initial_response =
    "501 5.7.0 The mechanism does not allow an initial response\r\n";

// RFC 7628 section 3.2.2; what Google's servers say.
constexpr std::string_view oauthbearer_error = R"({"status":"invalid_token"})";
constexpr std::string_view xoauth2_error = R"({"status":"401","schemes":"bearer"})";

bool has_nul(std::string_view s) noexcept {
  return s.find('\0') != s.npos;
}

bool printable(std::string_view s) noexcept {
  return std::none_of(s.begin(), s.end(), [](char c) {
    const auto octet = static_cast<unsigned char>(c);
    return octet < ' ' || octet == 0x7f;
  });
}

bool fits(std::string_view field) noexcept {
  return field.size() <= sasl_field_limit;
}

bool valid_name(std::string_view s) noexcept {
  return fits(s) && printable(s);
}

bool hexadecimal(char c) noexcept {
  return (c >= '0' && c <= '9') || (lower_case(c) >= 'a' && lower_case(c) <= 'f');
}

// What stands before `end`, which is taken off with it; nothing if there is no `end`.
std::optional<std::string_view> take_until(std::string_view& s, char end) noexcept {
  const std::size_t at = s.find(end);
  if (at == s.npos) return std::nullopt;
  const std::string_view taken = s.substr(0, at);
  s.remove_prefix(at + 1);
  return taken;
}

// "Bearer token" (RFC 6750 section 2.1); empty if it is none.
std::string_view bearer_token(std::string_view value) noexcept {
  constexpr std::string_view scheme = "Bearer ";
  if (!equal_ignoring_case(value.substr(0, scheme.size()), scheme)) return {};
  value.remove_prefix(scheme.size());
  value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
  const bool one_word = std::all_of(value.begin(), value.end(), [](char c) { return c > ' ' && c < 0x7f; });
  return one_word ? value : std::string_view();
}

// saslname (RFC 5801 section 4): "=2C" is a comma, "=3D" an equals sign. Decoded in place; nothing if it is
// none.
std::optional<std::size_t> decode_saslname(char* text, std::size_t size) noexcept {
  std::size_t out = 0;
  for (std::size_t i = 0; i < size; ++i) {
    char c = text[i];
    if (c == '=') {
      const std::string_view code(text + i, std::min<std::size_t>(size - i, 3));
      if (code == "=2C") {
        c = ',';
      } else if (code != "=3D") {
        return std::nullopt;
      }
      i += 2;
    }
    text[out++] = c;
  }
  return out;
}

}  // namespace

std::string_view mechanism_name(Mechanism m) noexcept {
  return names[static_cast<std::size_t>(m)];
}

std::optional<Mechanism> parse_mechanism(std::string_view name) noexcept {
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (equal_ignoring_case(names[i], name)) return static_cast<Mechanism>(i);
  }
  return std::nullopt;
}

void wipe(char* octets, std::size_t size) noexcept {
  if (size > 0) ::explicit_bzero(octets, size);
}

Secret::Secret(std::string_view octets) : octets_(new char[octets.size()]), size_(octets.size()) {
  std::copy(octets.begin(), octets.end(), octets_.get());
}

void Secret::clear() noexcept {
  wipe(octets_.get(), size_);
  octets_.reset();
  size_ = 0;
}

std::optional<Secret> Secret::decoded(std::string_view base64) {
  Secret out;
  const std::size_t room = decoded_size(base64.size());
  out.octets_.reset(new char[room]);
  out.size_ = room;  // all of it is wiped if it is no base64
  const auto size = decode_base64(base64, out.octets_.get());
  if (!size) return std::nullopt;
  out.size_ = *size;
  return out;
}

Secret plain_response(std::string_view user, std::string_view password) {
  std::string message;
  message.reserve(user.size() + password.size() + 2);
  message.append(1, '\0').append(user).append(1, '\0').append(password);
  std::string encoded;
  encoded.reserve((message.size() + 2) / 3 * 4);
  append_base64(encoded, message);
  wipe(message.data(), message.size());
  Secret response(encoded);
  wipe(encoded.data(), encoded.size());
  return response;
}

SaslExchange::State SaslExchange::begin(std::optional<std::string_view> initial_response) {
  credentials_.method = methods[static_cast<std::size_t>(mechanism_)];
  if (mechanism_ == Mechanism::cram_md5) {
    if (initial_response) return fail(no_initial_response);
    return challenge(challenge_);
  }
  if (!initial_response) return challenge(mechanism_ == Mechanism::login ? "Username:" : "");
  // "=" stands for none of no octets (RFC 4954 section 4).
  return take(*initial_response == "=" ? std::string_view() : *initial_response);
}

SaslExchange::State SaslExchange::respond(std::string_view line) {
  if (!refusal_.empty()) return fail(refusal_);
  if (line == "*") return fail(cancelled);
  return take(line);
}

SaslExchange::State SaslExchange::refuse(std::string_view reply) {
  const bool oauth = mechanism_ == Mechanism::oauthbearer || mechanism_ == Mechanism::xoauth2;
  // A client that is told so looks for another token, which does not help where the failure is temporary.
  if (!oauth || !reply.starts_with('5')) return fail(reply);
  refusal_ = reply;
  return challenge(mechanism_ == Mechanism::oauthbearer ? oauthbearer_error : xoauth2_error);
}

SaslExchange::State SaslExchange::challenge(std::string_view text) {
  reply_ = "334 ";
  append_base64(reply_, text);
  reply_ += "\r\n";
  return State::responding;
}

SaslExchange::State SaslExchange::fail(std::string_view reply) {
  reply_ = reply;
  credentials_ = {};
  user_.clear();
  response_.clear();
  return State::failed;
}

SaslExchange::State SaslExchange::take(std::string_view base64) {
  const bool has_token = mechanism_ == Mechanism::oauthbearer || mechanism_ == Mechanism::xoauth2;
  // Three fields, and what separates them, are all that others have to say. Octets in base64 are 4/3 as many.
  if (!has_token && base64.size() > 4 * (sasl_field_limit + 1)) return fail(malformed);
  auto response = Secret::decoded(base64);
  if (!response) return fail(not_base64);
  if (mechanism_ == Mechanism::login) return take_login(std::move(*response));
  response_ = std::move(*response);
  switch (mechanism_) {
    case Mechanism::plain:
      return take_plain();
    case Mechanism::cram_md5:
      return take_cram_md5();
    case Mechanism::external:
      return take_external();
    case Mechanism::oauthbearer:
      return take_oauthbearer();
    case Mechanism::xoauth2:
      return take_xoauth2();
    case Mechanism::login:
      break;
  }
  return fail(malformed);
}

// [authzid] NUL authcid NUL passwd
SaslExchange::State SaslExchange::take_plain() {
  std::string_view message = response_.view();
  const auto authorization = take_until(message, '\0');
  const auto user = authorization ? take_until(message, '\0') : std::nullopt;
  const bool whole = user && !user->empty() && !message.empty() && !has_nul(message) && fits(message);
  if (!whole || !valid_name(*authorization) || !valid_name(*user)) return fail(malformed);
  credentials_.authorization = *authorization;
  credentials_.user = *user;
  credentials_.password = message;
  return State::complete;
}

SaslExchange::State SaslExchange::take_login(Secret response) {
  const std::string_view text = response.view();
  if (text.empty() || has_nul(text) || !fits(text) || (!named_ && !printable(text))) return fail(malformed);
  Secret& place = named_ ? response_ : user_;
  place = std::move(response);
  if (!named_) {
    named_ = true;
    return challenge("Password:");
  }
  credentials_.user = user_.view();
  credentials_.password = response_.view();
  return State::complete;
}

// user SP digest: 16 octets in hexadecimal. A user may have spaces.
SaslExchange::State SaslExchange::take_cram_md5() {
  constexpr std::size_t digest_size = 32;
  const std::string_view message = response_.view();
  const std::size_t space = message.rfind(' ');
  if (space == message.npos || space == 0 || !printable(message)) return fail(malformed);
  const std::string_view digest = message.substr(space + 1);
  if (digest.size() != digest_size || !std::all_of(digest.begin(), digest.end(), hexadecimal)) {
    return fail(malformed);
  }
  if (!fits(message.substr(0, space))) return fail(malformed);
  credentials_.user = message.substr(0, space);
  credentials_.password = digest;
  credentials_.salt = challenge_;
  return State::complete;
}

SaslExchange::State SaslExchange::take_external() {
  if (!valid_name(response_.view())) return fail(malformed);
  credentials_.user = response_.view();
  return State::complete;
}

// gs2-header SOH *(key "=" value SOH) SOH, where gs2-header is ("n" / "y") "," ["a=" saslname] ","
SaslExchange::State SaslExchange::take_oauthbearer() {
  std::string_view message = response_.view();
  const auto binding = take_until(message, ',');  // "p=...": there is none to bind to
  const auto name = take_until(message, ',');
  if (!name || (*binding != "n" && *binding != "y") || !message.starts_with('\1')) return fail(malformed);
  if (!name->empty()) {
    if (!name->starts_with("a=") || name->size() == 2) return fail(malformed);
    std::string decoded(name->substr(2));
    const auto size = decode_saslname(decoded.data(), decoded.size());
    if (!size || !valid_name({decoded.data(), *size})) return fail(malformed);
    user_ = Secret(std::string_view(decoded).substr(0, *size));
  }
  message.remove_prefix(1);
  std::string_view token;
  while (!message.empty() && message != "\1") {
    const auto pair = take_until(message, '\1');
    std::string_view value = pair.value_or(std::string_view());
    const auto key = take_until(value, '=');
    if (!key || key->empty()) return fail(malformed);
    if (*key == "auth") token = bearer_token(value);
  }
  if (message.empty() || token.empty()) return fail(malformed);
  credentials_.user = user_.view();
  credentials_.password = token;
  return State::complete;
}

// "user=" user SOH "auth=Bearer " token SOH SOH
SaslExchange::State SaslExchange::take_xoauth2() {
  constexpr std::string_view user_key = "user=";
  constexpr std::string_view auth_key = "auth=";
  std::string_view message = response_.view();
  const auto user = take_until(message, '\1');
  const auto auth = take_until(message, '\1');
  if (!auth || message != "\1" || !user->starts_with(user_key) || !auth->starts_with(auth_key)) {
    return fail(malformed);
  }
  credentials_.user = user->substr(user_key.size());
  credentials_.password = bearer_token(auth->substr(auth_key.size()));
  if (credentials_.user.empty() || credentials_.password.empty() || !valid_name(credentials_.user)) {
    return fail(malformed);
  }
  return State::complete;
}

}  // namespace ringmx::smtp
