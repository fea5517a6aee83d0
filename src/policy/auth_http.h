// SPDX-License-Identifier: GPL-3.0-or-later
// nginx's auth_http: a question is a GET without a body, the answer is in the header of the response.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "policy/answer.h"

namespace ringmx::policy {

class AuthHttp final : public Protocol {
 public:
  struct Settings {
    std::string host = {};          // of the Host field
    std::string target = "/";       // path and query
    std::string headers = {};       // further ones, each a line with its CRLF
    bool pass_certificate = false;  // the client's, whole
    bool keep_alive = false;        // ask for the connection to be kept
    bool extra_headers = false;     // what nginx does not tell
  };
  explicit AuthHttp(Settings settings) : settings_(std::move(settings)) {}

  [[nodiscard]] std::string request(const Question& question) const override;
  [[nodiscard]] std::unique_ptr<AnswerReader> reader() const override;

 private:
  Settings settings_;
};

// A response of HTTP/1: its head, octet by octet, and how its body ends. Stricter than nginx where leniency
// would only hide a mistake: what can't be read has no answer.
class AuthHttpReader final : public AnswerReader {
 public:
  static constexpr std::size_t longest_head = 16 * 1024;
  static constexpr std::size_t most_fields = 100;
  // A longer body is not read to its end to keep the connection.
  static constexpr std::uint64_t longest_drained = 64 * 1024;

  State feed(std::string_view& input) override;

 private:
  // What of the answer is there.
  struct Fields {
    std::optional<std::string> status, error_code, wait, server, port, upstream, user, password;
  };
  State end_of_line();
  State end_of_head();
  [[nodiscard]] std::string_view read_status_line();
  [[nodiscard]] std::string_view read_field();
  [[nodiscard]] std::string_view interpret();

  std::size_t head_size_ = 0;
  std::size_t fields_count_ = 0;
  bool status_line_read_ = false;
  bool success_ = false;  // 2xx
  bool keep_alive_ = false;
  bool closes_ = false;
  bool bodiless_ = false;  // by its status
  bool unframed_ = false;  // Transfer-Encoding: its end can't be seen
  std::optional<std::uint64_t> body_left_;
  Fields fields_;
};

}  // namespace ringmx::policy
