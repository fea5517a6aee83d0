// SPDX-License-Identifier: GPL-3.0-or-later
// What a service is asked about a step, and what it says. The protocols are in auth_http.h and delegation.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "policy/facts.h"

namespace ringmx::policy {

// What a client has presented by AUTH.
struct Credentials {
  std::string_view method;  // "plain" (LOGIN, too), "cram-md5", "external", ...
  std::string_view user;
  std::string_view password;  // of cram-md5 the digest, in hexadecimal
  std::string_view salt;      // of cram-md5: "<1896.697170952@mx.example.org>"
  std::uint32_t attempt = 1;  // of this session, from 1 on
};

struct Question {
  Step step = Step::connect;
  const Facts& facts;
  const Credentials* credentials = nullptr;  // at auth
  std::string_view instance;                 // one for all questions about a transaction, and no other's
  bool asks_certificate = false;             // the listener asks its clients for certificates
};

struct Answer {
  enum class Verdict : std::uint8_t {
    allow,            // nothing is to be said against it
    refuse,           // by `reply`
    defer_if_permit,  // by `reply`, unless another service refuses
    defer_if_reject,  // if another service refuses for good, then by this `reply` instead of its own
    ask_again,        // after `wait`
  };
  Verdict verdict = Verdict::allow;
  bool permits = false;    // with allow: no other service of this protocol is to be asked at the step
  bool closes = false;     // with the refusal the session is to end
  std::uint32_t wait = 0;  // seconds until the reply is given, or the question is put again
  std::string reply;       // in wire form: one line, 4xx or 5xx, printable ASCII, at most 512 octets
  // Where the mail is to go: an upstream by its name, or by its address ("127.0.0.1:25", "[::1]:25",
  // "unix:/run/mta.sock", as the service wrote it). Both empty: it does not say.
  std::string upstream;
  std::string upstream_address;
  // Who the client is to the upstream.
  std::optional<std::string> user;
  std::optional<std::string> password;
  std::string remark;  // what is to be told to the operator, on one line
};

// Makes a reply of a service's words: `code` and maybe a status code ("550", "530 5.7.0"). Octets above 126
// become
// '?', what does not fit is cut off. Empty if they are no refusal: no code of 4xx or 5xx, or a control
// character.
[[nodiscard]] std::string make_reply(std::string_view code, std::string_view text);

// Printable ASCII, and not too much of it, for the log.
[[nodiscard]] std::string printable(std::string_view text);

namespace replies {
inline constexpr std::string_view service_unavailable =
    "451 4.3.0 A policy service is not available, try again later\r\n";
inline constexpr std::string_view service_confused =
    "451 4.3.0 A policy service gave no valid answer, try again later\r\n";
inline constexpr std::string_view service_unavailable_for_good =
    "550 5.3.0 A policy service is not available\r\n";
// It asks for what a gateway that stores nothing can't do with a message.
inline constexpr std::string_view not_done_here = "451 4.3.5 Server configuration error, try again later\r\n";
}  // namespace replies

// Reads the octets of one response, however they are cut.
class AnswerReader {
 public:
  enum class State : std::uint8_t {
    reading,   // there is no answer yet
    draining,  // there is, and more of the response is to come
    done,      // the connection is free for another question
    last,      // there is an answer, and the connection is of no further use
    failed,    // there never will be: see fault()
  };
  virtual ~AnswerReader() = default;
  // Takes what belongs to the response off the front of `input`.
  virtual State feed(std::string_view& input) = 0;
  [[nodiscard]] State state() const noexcept { return state_; }
  // Once there is one; to be moved from.
  [[nodiscard]] Answer& answer() noexcept { return answer_; }
  // Why there is none, in words.
  [[nodiscard]] std::string_view fault() const noexcept { return fault_; }

 protected:
  State fail(std::string_view fault) noexcept {
    fault_ = fault;
    return state_ = State::failed;
  }
  // Responses are lines of text, with LF or CRLF behind each. True: `c` ends line_. If it may not be, this
  // fails; `control` is the fault of a control character.
  [[nodiscard]] bool ends_line(char c, std::string_view control);

  State state_ = State::reading;
  Answer answer_;
  std::string line_;              // the one that is being read, without its end
  bool carriage_return_ = false;  // the last octet was one
  std::string_view fault_;        // static storage
};

// How a service is spoken to.
class Protocol {
 public:
  virtual ~Protocol() = default;
  [[nodiscard]] virtual std::string request(const Question& question) const = 0;
  [[nodiscard]] virtual std::unique_ptr<AnswerReader> reader() const = 0;
};

}  // namespace ringmx::policy
