// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/mail.h"

#include <algorithm>
#include <array>

#include "load/random.h"

namespace ringmx::load {

namespace {

constexpr std::size_t columns = 76;
// Of the text that bodies are made of: large enough for long sends, small enough for the cache.
constexpr std::size_t text_size = 64 * 1024;
constexpr std::size_t dot_every = 16;  // lines

constexpr std::array<std::string_view, 40> words{
    "the",   "message", "that",    "was",    "sent",   "to",     "a",      "server",  "which",  "reads",
    "every", "line",    "of",      "it",     "and",    "keeps",  "none",   "for",     "longer", "than",
    "one",   "reply",   "takes",   "from",   "here",   "on",     "this",   "meeting", "about",  "Tuesday",
    "with",  "please",  "regards", "figure", "letter", "answer", "before", "noon",    "if",     "possible"};

std::string prose(Random& random) {
  std::string line;
  while (line.size() < columns) {
    if (!line.empty()) line += ' ';
    line += words[random.next() % words.size()];
  }
  line.resize(columns);
  if (line.back() == ' ') line.back() = '.';
  return line;
}

std::string base64(Random& random) {
  constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string line;
  while (line.size() < columns) line += alphabet[random.next() % alphabet.size()];
  return line;
}

}  // namespace

Mail::Mail(MailOptions options) : options_(std::move(options)), filler_(columns + 1, 'x') {
  filler_ += "\r\n";
  Random random(options_.seed);
  for (std::size_t n = 1; text_.size() < text_size; ++n) {
    if (options_.base64) {
      add_line(base64(random));
    } else if (n % (4 * dot_every) == 0) {
      add_line(".");
    } else if (n % dot_every == 0) {
      add_line("." + prose(random).substr(1));
    } else {
      add_line(prose(random));
    }
  }
}

void Mail::add_line(std::string_view line) {
  if (line.starts_with('.')) stuffed_ += '.';
  for (std::string* form : {&text_, &stuffed_}) form->append(line).append("\r\n");
  line_ends_.push_back(
      {static_cast<std::uint32_t>(text_.size()), static_cast<std::uint32_t>(stuffed_.size())});
}

Mail::Layout Mail::layout(const Message& message) const noexcept {
  const std::uint64_t size = message.size - message.header_size;
  Layout parts{.repeats = size / text_.size(), .lines = 0, .filler = 0};
  const auto rest = static_cast<std::uint32_t>(size % text_.size());
  const auto next = std::upper_bound(line_ends_.begin(), line_ends_.end(), rest,
                                     [](std::uint32_t at, const LineEnd& end) { return at < end.plain; });
  parts.lines = static_cast<std::uint32_t>(next - line_ends_.begin());
  parts.filler = rest - (parts.lines == 0 ? 0 : line_ends_[parts.lines - 1].plain);
  if (parts.filler != 1) return parts;
  // One octet is no line: the line before it is left out, and the last one takes its place.
  if (parts.lines == 0) {
    --parts.repeats;
    parts.lines = static_cast<std::uint32_t>(line_ends_.size());
  }
  --parts.lines;
  parts.filler += line_ends_[parts.lines].plain - (parts.lines == 0 ? 0 : line_ends_[parts.lines - 1].plain);
  return parts;
}

Message Mail::message(std::uint64_t number, std::uint64_t session) const {
  Message message{.number = number, .session = session};
  std::string header;
  append_header(header, message);
  message.header_size = static_cast<std::uint32_t>(header.size());
  Random random(options_.seed + number);
  message.size = std::max<std::uint64_t>(options_.sizes.draw(random), header.size());
  if (message.size == header.size() + 1) ++message.size;  // a body is empty or a line
  return message;
}

void Mail::append_helo(std::string& out, std::uint64_t session) const {
  options_.helo.append(out, {.session = session});
}

void Mail::append_sender(std::string& out, const Message& message) const {
  options_.from.append(out, message.numbers());
}

void Mail::append_recipient(std::string& out, const Message& message, std::uint64_t recipient) const {
  options_.to[(message.number + recipient) % options_.to.size()].append(out, message.numbers(recipient));
}

void Mail::append_header(std::string& out, const Message& message) const {
  out.append("From: <");
  append_sender(out, message);
  if (options_.recipients == 1) {
    out.append(">\r\nTo: <");
    append_recipient(out, message, 0);
    out.append(">");
  } else {
    out.append(">\r\nTo: undisclosed-recipients:;");
  }
  out.append("\r\nDate: ").append(options_.date).append("\r\nSubject: ringmx-load message ");
  append_number(out, message.number);
  out.append("\r\nMessage-ID: <");
  append_number(out, message.number);
  out.append(".").append(options_.run).append("@");
  append_helo(out, message.session);
  out.append(">\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n");
  if (options_.base64) out.append("Content-Transfer-Encoding: base64\r\n");
  out.append("\r\n");
}

}  // namespace ringmx::load
