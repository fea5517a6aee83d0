// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace ringmx::admin {

// As much of HTTP/1.1 (RFC 9112) as a scrape needs: one GET or HEAD, no body, then the connection closes.

struct Request {
  enum class State : std::uint8_t { incomplete, complete, bad };
  State state = State::incomplete;
  std::string_view method;
  std::string_view path;    // without the query
  std::string_view accept;  // the Accept header; "" if there is none
};

// Reads the head of a request from the beginning of `bytes`; points into it.
[[nodiscard]] Request parse_request(std::string_view bytes) noexcept;

// A whole response. For HEAD the body is left out, but counted. `fields`: further header lines, with CRLF.
[[nodiscard]] std::string format_response(std::string_view status, std::string_view content_type,
                                          std::string_view body, bool head, std::string_view fields = {});

}  // namespace ringmx::admin
