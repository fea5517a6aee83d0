// SPDX-License-Identifier: GPL-3.0-or-later
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "load/script.h"

// A server says whatever it likes to the load generator's client, in pieces of any size. Input: an
// octet for the client's manners, one for the size of the pieces, then what the server sends.
//
// What must hold: each message begun has one outcome; no
// message is said that was not asked for by 354 or BDAT; after the end nothing is said.

namespace {

using namespace ringmx;

void check(bool truth) {
  if (!truth) std::abort();
}

class Client final : public load::Script::Owner {
 public:
  Client(const load::Manners& manners, const load::Mail& mail)
      : manners_(manners), script_(manners, mail, 0, *this) {}

  void talk(std::string_view wire, std::size_t piece_size) {
    script_.start();
    while (!wire.empty() && !over_) {
      const std::size_t n = std::min(piece_size, wire.size());
      const std::vector<char> piece(wire.begin(), wire.begin() + static_cast<std::ptrdiff_t>(n));
      wire.remove_prefix(n);
      if (script_.received({piece.data(), piece.size()}) != load::Script::Fault::none) return;
    }
  }

 private:
  void say(std::string_view commands) override { check(!over_ && commands.ends_with("\r\n")); }
  void say_message(const load::Message& message, std::uint64_t from, std::uint64_t to,
                   smtp::Framing framing) override {
    check(sending_ && from <= to && to <= message.size);
    check((framing == smtp::Framing::octets) == manners_.bdat);
    check(manners_.bdat || (go_ahead_ && from == 0 && to == message.size));
    go_ahead_ = false;
  }
  void replied(smtp::Stage stage, const smtp::Reply& reply) override {
    if (stage == smtp::Stage::data) go_ahead_ = reply.intermediate();
    if (stage == smtp::Stage::message) last_ = reply.positive();
  }
  void message_ended(const load::Outcome& outcome) override {
    check(sending_ && (!outcome.accepted || (last_ && outcome.recipients > 0)));
    check(outcome.accepted == (outcome.code == 0));
    sending_ = false;
  }
  void start_tls() override { check(false); }  // it was not asked for
  void ready() override {
    check(!sending_ && !over_ && !script_.waiting());
    if (messages_++ == 5) return script_.quit();
    sending_ = true;
    last_ = false;
    script_.begin({.number = messages_, .session = 0, .size = 5000, .header_size = 100});
  }
  void said_bye() override { over_ = true; }
  void dismissed(std::optional<smtp::Stage>, const smtp::Reply&) override {
    check(!sending_);
    over_ = true;
  }

  const load::Manners& manners_;
  load::Script script_;
  std::uint64_t messages_ = 0;
  bool sending_ = false;
  bool go_ahead_ = false;
  bool last_ = false;
  bool over_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  static const std::array<load::Mail, 2> mails{
      load::Mail({.from = load::Pattern::literal("f@x"), .to = {load::Pattern::literal("t@x")}}),
      load::Mail(
          {.from = load::Pattern::literal("f@x"), .to = {load::Pattern::literal("t@x")}, .recipients = 150})};
  using Pipelining = load::Manners::Pipelining;
  const std::uint8_t how = data[0];
  const load::Manners manners{
      .pipelining = std::array{Pipelining::offered, Pipelining::never, Pipelining::always}[how % 3],
      .bdat = (how & 0x10) != 0,
      .chunk_size = (how & 0x20) != 0 ? 999u : 0u};
  Client(manners, mails[(how & 0x40) != 0 ? 1 : 0])
      .talk({reinterpret_cast<const char*>(data + 2), size - 2}, data[1] + 1u);
  return 0;
}
