// SPDX-License-Identifier: GPL-3.0-or-later
#include "admin/http.h"

#include <algorithm>

namespace ringmx::admin {

namespace {

char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool is_header(std::string_view line, std::string_view lower_case_name) noexcept {
  return line.size() > lower_case_name.size() && line[lower_case_name.size()] == ':' &&
         std::equal(lower_case_name.begin(), lower_case_name.end(), line.begin(),
                    [](char name, char c) { return name == lower(c); });
}

std::string_view trim(std::string_view s) noexcept {
  while (!s.empty() && (s.front() == ' ' || s.front() == '\t')) s.remove_prefix(1);
  while (!s.empty() && (s.back() == ' ' || s.back() == '\t')) s.remove_suffix(1);
  return s;
}

}  // namespace

Request parse_request(std::string_view bytes) noexcept {
  Request request;
  const std::size_t end = bytes.find("\r\n\r\n");
  if (end == std::string_view::npos) return request;
  request.state = Request::State::bad;
  std::string_view head = bytes.substr(0, end + 2);
  const auto next_line = [&head] {
    const std::size_t n = head.find("\r\n");
    const std::string_view line = head.substr(0, n);
    head.remove_prefix(n + 2);
    return line;
  };
  // method SP request-target SP HTTP-version
  std::string_view version = next_line();
  const auto next_word = [&version] {
    const std::string_view word = version.substr(0, version.find(' '));
    version.remove_prefix(std::min(word.size() + 1, version.size()));
    return word;
  };
  request.method = next_word();
  const std::string_view target = next_word();
  if (request.method.empty() || target.empty()) return request;
  if (version.size() != 8 || !version.starts_with("HTTP/1.") || version[7] < '0' || version[7] > '9') {
    return request;
  }
  request.path = target.substr(0, target.find('?'));
  while (!head.empty()) {
    const std::string_view line = next_line();
    if (is_header(line, "accept")) request.accept = trim(line.substr(line.find(':') + 1));
  }
  request.state = Request::State::complete;
  return request;
}

std::string format_response(std::string_view status, std::string_view content_type, std::string_view body,
                            bool head, std::string_view fields) {
  std::string response("HTTP/1.1 ");
  response.append(status)
      .append("\r\nContent-Type: ")
      .append(content_type)
      .append("\r\nContent-Length: ")
      .append(std::to_string(body.size()))
      .append("\r\nConnection: close\r\n")
      .append(fields)
      .append("\r\n");
  if (!head) response.append(body);
  return response;
}

}  // namespace ringmx::admin
