// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "gateway/client.h"
#include "gateway/log.h"
#include "gateway/service.h"
#include "gateway/tls_material.h"
#include "gateway/upstream.h"
#include "metrics/counters.h"
#include "net/acceptor.h"
#include "net/stream.h"
#include "policy/rate_limit.h"
#include "policy/rules.h"
#include "ring/reactor.h"
#include "ringmx/smtp/session.h"
#include "tls/context.h"
#include "tls/ticket_keys.h"

namespace ringmx::gateway {

// A listener as one reactor sees it.
struct ListenerContext {
  const config::Listener* config = nullptr;
  metrics::ListenerCounters* counters = nullptr;
  smtp::SessionRules rules;
  const policy::Policy* policy = nullptr;
  std::array<std::vector<Service*>, policy::step_count>
      services;                      // by step, in the order in which they are asked
  policy::Steps decided;             // where there are rules, or services
  bool remembers = false;            // and one of them asks for what a session has said before
  bool remembers_recipient = false;  // at DATA, for the recipient
  std::uint32_t line_limit = 0;
  std::string greeting;  // wire form, as the next two
  std::string helo_reply;
  std::string ehlo_reply;  // with STARTTLS, where it can be had
  std::string ehlo_reply_in_tls;
  smtp::Capabilities offered;
  smtp::Capabilities offered_in_clear;  // with STARTTLS, likewise
  std::vector<UpstreamPool*> upstreams;
  bool any_upstream = false;      // a service may choose one that is not among them
  std::size_t next_upstream = 0;  // round robin
  std::unique_ptr<net::Acceptor> acceptor;
  std::shared_ptr<const tls::ServerContext> tls;  // null where there is none
  std::optional<policy::NetworkRateLimit> handshakes;
};

// The gateway on one reactor: its listeners, its clients, its upstream pools. Nothing in here is
// shared with another reactor but the immutable configuration.
class Worker final : private net::Acceptor::Owner, private UpstreamPool::Owner, private Service::Owner {
 public:
  // sockets: one per listener of the configuration, in its order.
  Worker(ring::Reactor& reactor, const config::Config& config, metrics::ReactorCounters& counters,
         std::vector<net::Socket> sockets, const TlsMaterial& material, const policy::Policies& policies,
         const Offload& offload);
  ~Worker() override;

  // New certificates and keys, for the handshakes from here on. Throws std::runtime_error, and the old ones
  // stay.
  void use(const TlsMaterial& material);

  void start();
  // No new sessions; those without a transaction get 421 now, the others when it is over, or after
  // drain_timeout. When the last connection is closed, `drained` is called, once.
  void drain(std::function<void()> drained);

  // For the clients.
  [[nodiscard]] ring::Reactor& reactor() noexcept { return reactor_; }
  [[nodiscard]] const config::Config& config() const noexcept { return config_; }
  [[nodiscard]] metrics::ReactorCounters& counters() noexcept { return counters_; }
  [[nodiscard]] net::StreamMemory client_memory() noexcept {
    return {client_buffers_, bulk_buffers_, text_, &records_};
  }
  [[nodiscard]] const Offload& offload() const noexcept { return offload_; }
  [[nodiscard]] Log& log() noexcept { return log_; }
  [[nodiscard]] net::StreamTraffic client_traffic() noexcept { return traffic(metrics::Side::client); }
  // By the listener's handshake_rate; if not, that is counted and told.
  [[nodiscard]] bool may_shake_hands(ListenerContext& listener, int fd);
  void client_closed(Client& client);
  // How much a session may keep waiting on each of its sides, in bytes of whole blocks. It shrinks with
  // what is left, so those who came first do not get it all, and nobody needs to know how many there are.
  [[nodiscard]] std::size_t share() noexcept {
    return std::clamp<std::size_t>(client_memory().spare() / 8, text_.block_size(),
                                   config_.server.session_memory / 2);
  }
  [[nodiscard]] ring::BlockPool& text() noexcept { return text_; }
  // The upstream of that name or, if there is none, of that address; null if it is not configured.
  [[nodiscard]] UpstreamPool* find_upstream(std::string_view name, std::string_view address);
  // One for each transaction that anybody is asked about, and no other's: of this host, at any time.
  [[nodiscard]] std::string new_instance();
  // For the pieces of one chunk while they are counted.
  [[nodiscard]] std::vector<std::string_view>& scratch() noexcept { return scratch_; }

 private:
  void accepted(net::Acceptor& acceptor, int fd) override;
  void accept_starved(net::Acceptor& acceptor, int error) override;
  void acceptor_closed(net::Acceptor& acceptor) override;
  void capabilities_changed() override;
  void connection_closed() override;
  void service_connection_closed() override { connection_closed(); }
  [[nodiscard]] net::StreamTraffic traffic(metrics::Side side) noexcept {
    return {counters_.bytes_received[side], counters_.bytes_sent[side]};
  }
  void offer(ListenerContext& listener);
  void drain_over();
  void stop_when_empty();

  ring::Reactor& reactor_;
  const config::Config& config_;
  const Offload& offload_;
  metrics::ReactorCounters& counters_;
  Log log_{reactor_};
  ring::ReceivePool client_pool_;
  ring::ReceiveBuffers bulk_buffers_;
  ring::ReceiveBuffers client_buffers_;
  ring::ReceivePool upstream_pool_;  // of its own: clients' data can't keep replies from coming
  ring::ReceiveBuffers upstream_buffers_;
  ring::BlockPool text_;
  ring::BlockPool records_;  // TLS records that are sealed here
  std::vector<std::string_view> scratch_;
  std::vector<std::unique_ptr<UpstreamPool>> pools_;
  std::vector<std::unique_ptr<Service>> services_;
  std::string instance_prefix_;
  std::uint64_t instances_ = 0;
  std::vector<ListenerContext> listeners_;
  std::vector<std::unique_ptr<Client>> clients_;
  bool draining_ = false;
  bool closing_ = false;  // drain_timeout is over
  std::function<void()> drained_;
  ring::TimerOf<&Worker::drain_over> drain_timer_{*this};
};

}  // namespace ringmx::gateway
