// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "gateway/consultation.h"
#include "gateway/handshake.h"
#include "gateway/session_facts.h"
#include "gateway/upstream.h"
#include "metrics/counters.h"
#include "net/slice_queue.h"
#include "net/stream.h"
#include "ringmx/smtp/body.h"
#include "ringmx/smtp/line.h"
#include "ringmx/smtp/sasl.h"
#include "ringmx/smtp/session.h"

namespace ringmx::gateway {

class Worker;
struct ListenerContext;

// One client on port 25, from accept to close: its session state, its transaction, and the relay
// between its stream and an upstream's. See client.cc for how a session flows.
class Client final : private net::Stream::Owner,
                     private Lessee,
                     private Handshake::Owner,
                     private Consultation::Owner {
 public:
  Client(Worker& worker, ListenerContext& listener, int fd);
  ~Client() override;

  void start();
  // SIGTERM: 421 now, or when the running transaction is over.
  void drain();
  // The drain's deadline: 421 and the end, whatever is going on.
  void shut_down();

 private:
  friend class Worker;

  // What the session is doing; it says who is expected to act next.
  enum class Phase : std::uint8_t {
    greeting,        // nobody: time, until the delayed greeting; or services, before it
    command,         // the client
    consultation,    // the services that are asked about its command
    authentication,  // the services that are asked about its credentials; or time, before they are refused
    lease,           // the worker: an upstream connection is being made
    data_reply,      // the upstream: may the message come?
    body,            // the client: DATA
    chunk,           // the client: the octets of BDAT
    chunk_reply,     // the upstream: its replies to the chunk
    message_reply,   // the upstream: its word on the message
    starttls,        // the kernel: nothing in clear text can come any more
    handshake,       // the client: TLS
    ending,          // the client: read the last reply and close
  };
  struct Transaction;
  struct Authentication {
    smtp::Mechanism mechanism{};
    std::optional<smtp::SaslExchange> exchange;  // the one under way
    std::uint32_t attempts = 0;                  // that services were asked about
    std::string refusal;                         // given when the pause is over
    bool closes = false;                         // with it
    bool refused = false;                        // the client has been told, and is to respond
  };

  enum class Origin : std::uint8_t { ringmx, upstream };  // whose words a reply is
  struct ToUpstream;

  void begin();
  void greet();
  void process();
  // One step each; false: nothing more to do until something happens.
  bool process_command();
  bool process_body();
  bool process_chunk();
  [[nodiscard]] bool keep(ring::Slice data);
  [[nodiscard]] bool keep_copy(const ring::Slice& data);
  void release_buffer(ring::Slice& slice);
  void forget(const ring::Slice& slice, std::size_t n) const noexcept;
  void update_receiving();
  void overrun();
  [[nodiscard]] std::size_t input_held() noexcept;
  void consume(std::size_t bytes);

  [[nodiscard]] policy::Facts facts_at(const smtp::Decision& decision) const;
  [[nodiscard]] bool consult(smtp::Decision& decision);
  void account_for(const policy::Verdict& verdict, policy::Step step, const policy::Facts& facts);
  [[nodiscard]] Consultation::State ask_services(policy::Step step, const policy::Facts& facts,
                                                 const policy::Credentials* credentials = nullptr);
  [[nodiscard]] bool heed_services(smtp::Decision& decision, Consultation::State state);
  void choose_upstream(policy::Step step);
  void act(const smtp::Decision& decision);
  void abort_transaction();
  void recipient(const smtp::RcptCommand& rcpt);
  [[nodiscard]] std::span<UpstreamPool* const> upstreams() const noexcept;
  void start_over();
  void acquire_upstream(bool fresh);
  void continue_acquiring();
  [[nodiscard]] bool will_do() const noexcept;
  void send_envelope();
  void answer_pending(std::string_view text, Origin origin);
  void recipient_decided(bool accepted);
  [[nodiscard]] bool reply_to_recipient(std::string_view text, Origin origin);
  void envelope_lost(std::string_view text);

  void data();
  void data_refused(std::string_view text, Origin origin);
  void begin_body();
  void inspect_body();
  void fail_message(std::string_view text);
  void message_is_over();
  void message_ends(std::string_view text, Origin origin);
  void end_transaction();

  void chunk(const smtp::BdatCommand& bdat);
  void refuse_chunk(const smtp::BdatCommand& bdat, std::string_view text);
  void relay_chunk(std::string_view piece, const ring::Slice& source, bool finish);
  void end_of_chunk();
  void chunk_failed();

  void begin_handshake();

  [[nodiscard]] smtp::MechanismSet offered_mechanisms(const smtp::Decision& hello);
  void authenticate(const smtp::Decision& decision);
  void exchange_goes_on(smtp::SaslExchange::State state);
  void judge_credentials();
  void accept_credentials(std::string user);
  void refuse_credentials(std::string_view text, bool closes);
  void pause_is_over();
  void authentication_failed(std::string_view text, metrics::AuthResult result, bool closes);
  void exchange_broken();
  void forget_login();

  void mail_replied(const smtp::Reply& text);
  void recipient_replied(const smtp::Reply& text);
  void data_replied(const smtp::Reply& text);
  void chunk_replied(const smtp::Reply& text);
  void message_replied(const smtp::Reply& text);
  void accepted(std::string_view text);
  void leave_upstream();
  [[nodiscard]] bool upstream_is_behind() const noexcept;

  void reply(std::string_view text, Origin origin = Origin::ringmx);
  void expect_command();
  void await_command();
  void reply_and_close(std::string_view text, metrics::Close reason);
  void out_of_step(metrics::Violation violation);
  void close_after_replies(metrics::Close reason);
  void close(metrics::Close reason);
  void leave(metrics::Close reason);
  void count_message(std::string_view text);
  void count_faults();
  [[nodiscard]] metrics::ClosedIn stage() const noexcept;

  void set_deadline(ring::Duration after);
  void set_body_deadline();
  void no_deadline();
  void on_timeout();

  void stream_received(ring::Slice data) override;
  void stream_ended(int error) override;
  void stream_quiet() override;
  void stream_sent() override;
  void stream_closed() override;
  [[nodiscard]] const Login* login() const noexcept override { return login_.get(); }
  void upstream_ready(UpstreamConnection& connection) override;
  void upstream_replaced(UpstreamConnection& connection) override { upstream_ = &connection; }
  void upstream_unavailable() override;
  void upstream_replied(smtp::Stage stage, const smtp::Reply& reply) override;
  void upstream_sent() override;
  void upstream_lost(metrics::UpstreamLoss loss) override;
  void handshake_done(const Handshake& handshake) override;
  void handshake_failed(const Handshake& handshake) override;
  void consultation_goes_on() override;

  Worker& worker_;
  ListenerContext& listener_;
  Phase phase_ = Phase::greeting;
  bool input_ended_ : 1 = false;  // the client has ended its side
  bool draining_ : 1 = false;
  bool processing_ : 1 = false;
  bool data_refused_ : 1 = false;  // DATA was, and no command has come since
  bool overrun_ : 1 = false;       // there was no memory for what it sent: it goes after the next reply
  smtp::ExtensionSet offered_;     // by the last EHLO reply
  std::uint32_t index_ = 0;        // in Worker::clients_
  smtp::Session session_;
  smtp::LineReader lines_;
  net::SliceQueue input_;                   // received, not yet processed
  UpstreamConnection* upstream_ = nullptr;  // leased, or (Phase::lease) being made
  std::unique_ptr<Transaction> transaction_;
  SessionFacts facts_;
  std::unique_ptr<Consultation> consultation_;  // about the command at hand
  // What services have said, and are told; null where the listener has none.
  struct Advice {
    // Upstreams that they have chosen; null: none.
    UpstreamPool* at_connect = nullptr;
    UpstreamPool* at_auth = nullptr;
    UpstreamPool* at_mail = nullptr;
    std::string instance;  // of the transaction
  };
  std::unique_ptr<Advice> advice_;
  std::unique_ptr<Authentication> authentication_;  // from the first AUTH on
  std::unique_ptr<const Login> login_;              // who the client is, once it has said so
  ring::TimerOf<&Client::on_timeout> timer_{*this};
  net::Stream stream_;
  std::unique_ptr<Handshake> handshake_;
};

}  // namespace ringmx::gateway
