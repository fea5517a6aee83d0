// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "load/mail.h"
#include "ringmx/smtp/body.h"
#include "ringmx/smtp/capabilities.h"
#include "ringmx/smtp/dialogue.h"

namespace ringmx::load {

// How a client of this run speaks.
struct Manners {
  enum class Pipelining : std::uint8_t { offered, never, always };
  Pipelining pipelining = Pipelining::offered;
  bool bdat = false;             // else DATA
  std::uint64_t chunk_size = 0;  // octets of a BDAT; 0: the whole message
  bool starttls = false;
};

// What became of a message.
struct Outcome {
  bool accepted = false;
  smtp::Stage stage = smtp::Stage::message;  // refused: by the reply to what
  std::uint16_t code = 0;                    // of that reply
  std::uint32_t recipients = 0;              // that were accepted
};

// The client's side of one session as pure state: replies in, what to say next out. It knows no
// socket and no clock.
//
// What is pipelined (RFC 2920) leaves as one group: MAIL, RCPT and DATA, or BDATs with their octets;
// as many commands as a Dialogue can hold. The next group leaves when all replies to the last are
// in. In lock step every group is one command.
class Script {
 public:
  class Owner {
   public:
    virtual ~Owner() = default;
    virtual void say(std::string_view commands) = 0;  // valid during the call
    // Octets [from, to) of the message, header and body, so framed; whole if Framing::dot, without
    // the final dot.
    virtual void say_message(const Message& message, std::uint64_t from, std::uint64_t to,
                             smtp::Framing framing) = 0;
    virtual void replied(smtp::Stage stage, const smtp::Reply& reply) = 0;
    // The message is over; ready() follows, at once or after RSET, unless it is the session's end.
    virtual void message_ended(const Outcome& outcome) = 0;
    // STARTTLS was answered with 220: the handshake is due, then tls_started(). What comes before it,
    // in clear text, must not reach received().
    virtual void start_tls() = 0;
    // begin() or quit() may be called: now or later.
    virtual void ready() = 0;
    // The server has answered QUIT.
    virtual void said_bye() = 0;
    // The server ends the session: 421, or a refused greeting, EHLO or STARTTLS. Nothing more is said.
    // `stage`: what that answers; nothing if the session was at rest.
    virtual void dismissed(std::optional<smtp::Stage> stage, const smtp::Reply& reply) = 0;
  };

  Script(const Manners& manners, const Mail& mail, std::uint64_t session, Owner& owner) noexcept
      : manners_(manners), mail_(mail), owner_(owner), session_(session), dialogue_(reply_limit) {}

  // The connection stands, with implicit TLS the handshake is over.
  void start() noexcept { dialogue_.expect(smtp::Stage::greeting); }
  // The handshake that start_tls() asked for is over: says EHLO again, and forgets what was offered
  // before (RFC 3207 section 4.2).
  void tls_started();

  enum class Fault : std::uint8_t { none, bad_reply, unsolicited };
  // Bytes of the server. After a fault the session is of no further use.
  [[nodiscard]] Fault received(std::string_view input);

  // Requires that ready() was called, and no other of the two since.
  void begin(const Message& message);
  void quit();

  // STARTTLS is to be used and the server has not offered it.
  [[nodiscard]] bool lacks_starttls() const noexcept { return manners_.starttls && !secured_; }
  // BDAT is to be used and the server has not offered it.
  [[nodiscard]] bool lacks_chunking() const noexcept {
    return manners_.bdat && !capabilities_.extensions.has(smtp::Extension::chunking);
  }
  [[nodiscard]] bool waiting() const noexcept { return dialogue_.outstanding() > 0; }
  // What the next reply will answer. Requires waiting().
  [[nodiscard]] smtp::Stage stage() const noexcept { return dialogue_.oldest(); }

 private:
  static constexpr std::uint32_t reply_limit = 64 * 1024;

  void handle(smtp::Stage stage, const smtp::Reply& reply);
  void hello(std::string_view verb, smtp::Stage stage);
  void refused(smtp::Stage stage, const smtp::Reply& reply) noexcept;
  void proceed();
  void speak();
  void say_chunk(std::string& commands);
  void end_message(bool accepted);

  const Manners& manners_;
  const Mail& mail_;
  Owner& owner_;
  std::uint64_t session_;
  smtp::Dialogue dialogue_;
  smtp::Capabilities capabilities_;
  Message message_;
  Outcome outcome_;
  std::uint64_t octets_said_ = 0;  // in chunks
  std::uint32_t recipients_said_ = 0;
  bool mail_said_ : 1 = false;
  bool mail_accepted_ : 1 = false;
  bool data_said_ : 1 = false;  // DATA, or the last chunk
  bool go_ahead_ : 1 = false;   // 354 was answered, and the message is still to be said
  bool answered_ : 1 = false;   // the server's last word on the message is in
  bool sending_ : 1 = false;    // a message is at hand
  bool became_ready_ : 1 = false;
  bool tls_due_ : 1 = false;  // STARTTLS was accepted, and the owner does not know yet
  bool secured_ : 1 = false;  // by STARTTLS
  bool over_ : 1 = false;
};

}  // namespace ringmx::load
