// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "gateway/handshake.h"
#include "load/quantity.h"
#include "load/script.h"
#include "load/statistics.h"
#include "net/slice_queue.h"
#include "net/stream.h"
#include "ring/timer_wheel.h"

namespace ringmx::load {

class Generator;

// A message that is to be sent, and since when.
struct Ticket {
  std::uint64_t number = 0;
  Nanoseconds due = 0;
};

// One session: a Script on a Stream, with a clock; a Handshake has the stream as long as it lasts.
class Connection final : private net::Stream::Owner,
                         private Script::Owner,
                         private gateway::Handshake::Owner {
 public:
  // `slow`: bytes per second; 0: as fast as they go.
  Connection(Generator& generator, std::uint64_t session, std::uint64_t slow);

  // Connects that socket. `ticket`: the message for whose sake; it has failed if the session does not
  // come about.
  void open(int fd, std::optional<Ticket> ticket);
  // At rest: says so, or that it is over.
  void send(const Ticket& ticket);
  void quit();
  // The end of the run: closes at once.
  void cut_off();

  [[nodiscard]] std::uint64_t messages() const noexcept { return messages_; }

 private:
  friend class Generator;
  void read(std::string_view data);
  void stream_received(ring::Slice data) override;
  void stream_ended(int error) override;
  void stream_connected() override;
  void stream_quiet() override;
  void stream_sent() override;
  void stream_closed() override;

  void say(std::string_view commands) override;
  void say_message(const Message& message, std::uint64_t from, std::uint64_t to,
                   smtp::Framing framing) override;
  void replied(smtp::Stage stage, const smtp::Reply& reply) override;
  void message_ended(const Outcome& outcome) override;
  void start_tls() override;
  void ready() override;
  void said_bye() override;
  void dismissed(std::optional<smtp::Stage> stage, const smtp::Reply& reply) override;

  void handshake_done(const gateway::Handshake& handshake) override;
  void handshake_failed(const gateway::Handshake& handshake) override;
  void session_resumable(std::shared_ptr<const tls::Session> session) override;

  void shake_hands();
  void put(ring::Slice slice);
  void put_copy(std::string_view bytes);
  void fail(Failure failure, std::string_view text);
  void fail(Failure failure, std::size_t place, std::string_view text);
  void count_failure(Failure failure, std::size_t place, std::string_view text);
  void begin();
  void wait(Nanoseconds patience);
  void on_timeout();
  void on_pace();

  Generator& generator_;
  net::Stream stream_;
  Script script_;
  std::unique_ptr<gateway::Handshake> handshake_;
  std::uint64_t session_;
  std::uint64_t messages_ = 0;
  std::optional<Ticket> ticket_;  // the message at hand
  std::uint64_t size_ = 0;        // its size
  Nanoseconds opened_ = 0;
  Nanoseconds said_ = 0;   // the group of commands that is being answered
  Nanoseconds begun_ = 0;  // the message at hand: MAIL
  Nanoseconds sent_ = 0;   // its last octet; 0: not yet
  std::uint32_t index_ = 0;
  bool connected_ : 1 = false;
  bool starttls_ : 1 = false;    // 220 has come, the handshake is not over
  bool waited_for_ : 1 = false;  // its session is the one that others are to resume
  bool secured_ : 1 = false;
  bool at_rest_ : 1 = false;
  bool sending_ : 1 = false;  // (part of) a message is on its way to the system
  bool over_ : 1 = false;     // its end is counted
  ring::TimerOf<&Connection::on_timeout> timer_{*this};

  std::uint64_t slow_;
  Nanoseconds paced_ = 0;    // when a slow client last sent something
  net::SliceQueue waiting_;  // what it has still to send
  ring::TimerOf<&Connection::on_pace> pace_{*this};
};

}  // namespace ringmx::load
