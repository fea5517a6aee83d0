// SPDX-License-Identifier: GPL-3.0-or-later
#include "policy/auth_http.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "policy/tls_names.h"
#include "ringmx/smtp/base64.h"
#include "smtp/ascii.h"

// The request is nginx's to the octet (ngx_mail_auth_http_module, 1.22 to 1.31), in the order of its fields;
// tests/e2e holds it against a real one. Of the answer nginx takes nothing but the fields, and what it can't
// read it passes over. Here the differences are these:
//
//   - Without an Auth-Status nginx lets the client in, if there is an Auth-Server. Here that is no answer.
//   - nginx does not look at the status of the response. Here OK counts with 2xx only: a script that says OK
//   and
//     then dies has not decided. A refusal counts whatever the status, as scripts that say 401 or 403 expect.
//   - A field that is there twice, or a line that is no field, is no answer: somebody has put it together of
//   parts
//     that were not his (CRLF in a value).
//   - Auth-Error-Code must be a code: else the refusal is 451, with a remark.
//   - Auth-Server and Auth-Port need not be there. If they are, they name an upstream.

namespace ringmx::policy {

namespace {

using smtp::equal_ignoring_case;

constexpr std::string_view default_error_code = "535 5.7.0";  // nginx's

// NGX_ESCAPE_MAIL_AUTH: control characters, space and '%'.
std::string escaped(std::string_view text) {
  constexpr std::string_view hex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const auto octet = static_cast<unsigned char>(c);
    if (octet > ' ' && c != '%') {
      out += c;
    } else {
      out.append(1, '%').append(1, hex[octet >> 4]).append(1, hex[octet & 15]);
    }
  }
  return out;
}

// What no client's octet can break out of. (A command line has no CR, LF or NUL; a certificate may.)
void append_field(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ");
  for (const char c : value) out += c == '\r' || c == '\n' || c == '\0' ? ' ' : c;
  out += "\r\n";
}

std::string lower_case(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), smtp::lower_case);
  return out;
}

// RFC 7468
std::string pem(std::string_view der) {
  constexpr std::size_t line_octets = 48;
  std::string out = "-----BEGIN CERTIFICATE-----";
  for (; !der.empty(); der.remove_prefix(std::min(line_octets, der.size()))) {
    smtp::append_base64(out += '\n', der.substr(0, line_octets));
  }
  return out += "\n-----END CERTIFICATE-----\n";
}

std::string command(std::string_view verb, std::string_view argument) {
  return argument.empty() ? std::string() : std::string(verb).append(" ").append(argument);
}

// RFC 9110 5.6.2
constexpr bool is_token(char c) noexcept {
  constexpr std::string_view marks = "!#$%&'*+-.^_`|~";
  const char lower = smtp::lower_case(c);
  return (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || marks.find(c) != marks.npos;
}

std::string_view trimmed(std::string_view s) noexcept {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

// A list of words that contains `word` (RFC 9110 5.6.1).
bool lists(std::string_view value, std::string_view word) noexcept {
  for (;;) {
    const std::size_t comma = value.find(',');
    if (equal_ignoring_case(trimmed(value.substr(0, comma)), word)) return true;
    if (comma == value.npos) return false;
    value.remove_prefix(comma + 1);
  }
}

template <class Number>
std::optional<Number> number(std::string_view text) noexcept {
  Number n{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return n;
}

}  // namespace

std::string AuthHttp::request(const Question& question) const {
  const Facts& facts = question.facts;
  static constexpr Credentials nobody{.method = "none", .user = {}, .password = {}, .salt = {}, .attempt = 1};
  const Credentials& who = question.credentials != nullptr ? *question.credentials : nobody;
  std::string out = "GET " + settings_.target + " HTTP/1.0\r\n";
  append_field(out, "Host", settings_.host);
  append_field(out, "Auth-Method", who.method);
  append_field(out, "Auth-User", escaped(who.user));
  append_field(out, "Auth-Pass", escaped(who.password));
  if (!who.salt.empty()) append_field(out, "Auth-Salt", who.salt);
  append_field(out, "Auth-Protocol", "smtp");
  append_field(out, "Auth-Login-Attempt", std::to_string(who.attempt));
  append_field(out, "Client-IP", text_of(facts.client));
  append_field(out, "Client-Host", "[UNAVAILABLE]");  // as nginx without a resolver
  if (&who == &nobody) {
    append_field(out, "Auth-SMTP-Helo", facts.helo);
    append_field(out, "Auth-SMTP-From", command("MAIL", facts.mail_argument));
    append_field(out, "Auth-SMTP-To", command("RCPT", facts.rcpt_argument));
  }
  if (facts.tls.version != 0) {
    append_field(out, "Auth-SSL", "on");
    append_field(out, "Auth-SSL-Protocol", facts.tls.protocol);
    append_field(out, "Auth-SSL-Cipher", openssl_name(facts.tls.suite));
    if (const Certificate* certificate = facts.tls.certificate) {
      append_field(out, "Auth-SSL-Verify", certificate->verified ? "SUCCESS" : "FAILED");
      const auto append_known = [&out](std::string_view name, std::string_view value) {
        if (!value.empty()) append_field(out, name, value);
      };
      append_known("Auth-SSL-Subject", certificate->subject);
      append_known("Auth-SSL-Issuer", certificate->issuer);
      append_known("Auth-SSL-Serial", certificate->serial);
      append_known("Auth-SSL-Fingerprint", lower_case(certificate->sha1));
      if (settings_.pass_certificate && !certificate->der.empty())
        append_field(out, "Auth-SSL-Cert", escaped(pem(certificate->der)));
    } else if (question.asks_certificate) {
      append_field(out, "Auth-SSL-Verify", "NONE");
    }
  }
  out += settings_.headers;
  if (settings_.extra_headers) {
    append_field(out, "Auth-Step", name_of(question.step));
    append_field(out, "Auth-Listener", facts.listener);
    append_field(out, "Client-Port", std::to_string(facts.client_port));
    append_field(out, "Server-IP", text_of(facts.server));
    append_field(out, "Server-Port", std::to_string(facts.server_port));
    if (facts.tls.version != 0) {
      append_field(out, "Auth-SSL-Group", facts.tls.group);
      append_field(out, "Auth-SSL-Resumed", facts.tls.resumed ? "yes" : "no");
    }
    if (!facts.user.empty()) append_field(out, "Auth-SMTP-User", escaped(facts.user));
    if (!question.instance.empty()) append_field(out, "Auth-SMTP-Transaction", question.instance);
    append_field(out, "Auth-SMTP-Recipients", std::to_string(facts.recipients));
  }
  if (settings_.keep_alive) append_field(out, "Connection", "keep-alive");
  return out += "\r\n";
}

std::unique_ptr<AnswerReader> AuthHttp::reader() const {
  return std::make_unique<AuthHttpReader>();
}

AnswerReader::State AuthHttpReader::feed(std::string_view& input) {
  while (!input.empty() && (state_ == State::reading || state_ == State::draining)) {
    if (state_ == State::draining) {
      const std::size_t n = std::min<std::uint64_t>(input.size(), *body_left_);
      input.remove_prefix(n);
      *body_left_ -= n;
      if (*body_left_ == 0) state_ = State::done;
      continue;
    }
    const char c = input.front();
    input.remove_prefix(1);
    if (++head_size_ > longest_head) return fail("more than 16 KiB of header");
    // A line may end in LF alone (RFC 9112 2.2), as it may for nginx.
    if (ends_line(c, "a control character in the header")) end_of_line();
  }
  return state_;
}

AnswerReader::State AuthHttpReader::end_of_line() {
  if (status_line_read_ && line_.empty()) return end_of_head();
  const std::string_view fault = status_line_read_ ? read_field() : read_status_line();
  status_line_read_ = true;
  line_.clear();
  return fault.empty() ? state_ : fail(fault);
}

// HTTP-version SP status-code [SP reason]
std::string_view AuthHttpReader::read_status_line() {
  const std::string_view line = line_;
  const bool good = line.size() >= 12 && line.starts_with("HTTP/1.") && line[7] >= '0' && line[7] <= '9' &&
                    line[8] == ' ' && number<unsigned>(line.substr(9, 3)).value_or(0) >= 100 &&
                    (line.size() == 12 || line[12] == ' ');
  if (!good) return "no response of HTTP/1";
  // It was not asked to wait for anything, and a second response would follow.
  if (line[9] == '1') return "a response before the response (1xx)";
  success_ = line[9] == '2';
  bodiless_ = line.substr(9, 3) == "204" || line.substr(9, 3) == "304";
  return {};
}

std::string_view AuthHttpReader::read_field() {
  if (++fields_count_ > most_fields) return "more than 100 fields in the header";
  const std::size_t colon = line_.find(':');
  const std::string_view name = std::string_view(line_).substr(0, colon);
  if (colon == line_.npos || name.empty() || !std::all_of(name.begin(), name.end(), is_token))
    return "a line in the header that is no field";
  const std::string_view value = trimmed(std::string_view(line_).substr(colon + 1));

  using Field = std::optional<std::string> Fields::*;
  constexpr std::array<std::pair<std::string_view, Field>, 8> known{{
      {"Auth-Status", &Fields::status},
      {"Auth-Error-Code", &Fields::error_code},
      {"Auth-Wait", &Fields::wait},
      {"Auth-Server", &Fields::server},
      {"Auth-Port", &Fields::port},
      {"Auth-Upstream", &Fields::upstream},
      {"Auth-User", &Fields::user},
      {"Auth-Pass", &Fields::password},
  }};
  for (const auto& [known_name, field] : known) {
    if (!equal_ignoring_case(name, known_name)) continue;
    if (fields_.*field) return "a field of the answer that is there twice";
    fields_.*field = value;
    return {};
  }
  if (equal_ignoring_case(name, "Connection")) {
    keep_alive_ = keep_alive_ || lists(value, "keep-alive");
    closes_ = closes_ || lists(value, "close");
  } else if (equal_ignoring_case(name, "Transfer-Encoding")) {
    unframed_ = true;
  } else if (equal_ignoring_case(name, "Content-Length")) {
    const auto length = number<std::uint64_t>(value);
    if (!length || (body_left_ && body_left_ != length)) return "no valid Content-Length";
    body_left_ = length;
  }
  return {};
}

AnswerReader::State AuthHttpReader::end_of_head() {
  if (const std::string_view fault = interpret(); !fault.empty()) return fail(fault);
  line_ = {};
  fields_ = {};
  // RFC 9112 6.3. A server that announces a body all the same may well send it.
  if (bodiless_ && body_left_.value_or(0) != 0) unframed_ = true;
  if (bodiless_) body_left_ = 0;
  const bool keep = keep_alive_ && !closes_ && !unframed_ && body_left_ && *body_left_ <= longest_drained;
  if (!keep) return state_ = State::last;
  return state_ = *body_left_ == 0 ? State::done : State::draining;
}

// Why there is no answer; empty if there is.
std::string_view AuthHttpReader::interpret() {
  Fields& f = fields_;
  if (!f.status || f.status->empty()) return "no Auth-Status in the response";
  answer_.wait = number<std::uint32_t>(f.wait.value_or("")).value_or(0);
  if (*f.status == "WAIT") {
    if (answer_.wait == 0) return "Auth-Status: WAIT without an Auth-Wait";
    answer_.verdict = Answer::Verdict::ask_again;
    return {};
  }
  if (*f.status != "OK") {
    answer_.verdict = Answer::Verdict::refuse;
    answer_.closes = answer_.wait == 0;
    answer_.reply = make_reply(f.error_code.value_or(std::string(default_error_code)), *f.status);
    if (answer_.reply.empty()) {
      answer_.remark =
          "the Auth-Error-Code \"" + printable(f.error_code.value_or("")) + "\" is no code of 4xx or 5xx";
      answer_.reply = replies::service_confused;
    }
    return {};
  }
  if (!success_) return "Auth-Status: OK in a response that is not 2xx";
  answer_.wait = 0;
  if (f.upstream) answer_.upstream = std::move(*f.upstream);
  if (f.server && !f.server->empty()) {
    const bool path = f.server->starts_with("unix:");
    const auto port = number<std::uint16_t>(f.port.value_or(""));
    if (!path && port.value_or(0) == 0) return "an Auth-Server without a valid Auth-Port";
    const bool bare_ipv6 = f.server->find(':') != f.server->npos && !f.server->starts_with('[');
    answer_.upstream_address = path        ? *f.server
                               : bare_ipv6 ? "[" + *f.server + "]:" + std::to_string(*port)
                                           : *f.server + ":" + std::to_string(*port);
  }
  if (f.user && !f.user->empty()) answer_.user = std::move(f.user);
  answer_.password = std::move(f.password);
  return {};
}

}  // namespace ringmx::policy
