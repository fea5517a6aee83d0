// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "load/pattern.h"
#include "load/sizes.h"

namespace ringmx::load {

// One message: what is told of it, not its octets.
struct Message {
  std::uint64_t number = 0;
  std::uint64_t session = 0;
  std::uint64_t size = 0;         // octets, as RFC 1870 counts them
  std::uint32_t header_size = 0;  // of those, the header with the empty line
  [[nodiscard]] Pattern::Numbers numbers(std::uint64_t recipient = 0) const noexcept {
    return {.message = number, .recipient = recipient, .session = session};
  }
};

struct MailOptions {
  Pattern from{};
  std::vector<Pattern> to{};  // in turn: recipient r of message n is the (n + r)th
  std::uint32_t recipients = 1;
  Pattern helo{};
  Sizes sizes{};
  bool base64 = false;  // else text, with lines that begin with a dot, and a dot alone
  std::uint64_t seed = 0;
  std::string date{};  // RFC 5322 date-time
  std::string run{};   // makes Message-IDs unique; letters and digits
};

// All the messages of a run. Headers are made for each; bodies are pieces of one text, which stays
// where it is, so that nothing of it is ever copied.
class Mail {
 public:
  explicit Mail(MailOptions options);

  [[nodiscard]] Message message(std::uint64_t number, std::uint64_t session) const;
  [[nodiscard]] std::uint32_t recipients() const noexcept { return options_.recipients; }
  void append_helo(std::string& out, std::uint64_t session) const;
  void append_sender(std::string& out, const Message& message) const;
  void append_recipient(std::string& out, const Message& message, std::uint64_t recipient) const;
  void append_header(std::string& out, const Message& message) const;

  // Hands out octets [from, to) of the message's body (the header aside), in pieces.
  template <class Sink>
  void body(const Message& message, std::uint64_t from, std::uint64_t to, Sink&& sink) const;
  // Hands out the whole body with its dots stuffed.
  template <class Sink>
  void stuffed_body(const Message& message, Sink&& sink) const;

 private:
  struct LineEnd {  // in text_ and in stuffed_
    std::uint32_t plain;
    std::uint32_t stuffed;
  };
  // A body: the text so many times, some of its lines, and a last line that makes it as long as it is to be.
  struct Layout {
    std::uint64_t repeats;
    std::uint32_t lines;  // LineEnd of the last one: lines - 1
    std::uint32_t filler;
  };
  [[nodiscard]] Layout layout(const Message& message) const noexcept;
  [[nodiscard]] std::string_view filler(std::uint32_t size) const noexcept {
    return std::string_view(filler_).substr(filler_.size() - size);
  }
  void add_line(std::string_view line);

  MailOptions options_;
  std::string text_;
  std::string stuffed_;
  std::vector<LineEnd> line_ends_;
  std::string filler_;
};

template <class Sink>
void Mail::body(const Message& message, std::uint64_t from, std::uint64_t to, Sink&& sink) const {
  const Layout parts = layout(message);
  const std::uint64_t lines_end =
      parts.repeats * text_.size() + (parts.lines == 0 ? 0 : line_ends_[parts.lines - 1].plain);
  while (from < to && from < lines_end) {
    const std::uint64_t at = from % text_.size();
    const std::uint64_t n = std::min<std::uint64_t>({text_.size() - at, to - from, lines_end - from});
    sink(std::string_view(text_).substr(at, n));
    from += n;
  }
  if (from < to) sink(filler(parts.filler).substr(from - lines_end, to - from));
}

template <class Sink>
void Mail::stuffed_body(const Message& message, Sink&& sink) const {
  const Layout parts = layout(message);
  for (std::uint64_t i = 0; i < parts.repeats; ++i) sink(std::string_view(stuffed_));
  if (parts.lines > 0) sink(std::string_view(stuffed_).substr(0, line_ends_[parts.lines - 1].stuffed));
  if (parts.filler > 0) sink(filler(parts.filler));
}

}  // namespace ringmx::load
