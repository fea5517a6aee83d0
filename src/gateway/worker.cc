// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/worker.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <ctime>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <utility>

#include "config/notation.h"
#include "ringmx/smtp/forward.h"
#include "tls/records.h"

namespace ringmx::gateway {

namespace {

// Replies are read as they come and never kept, so a few small buffers do.
constexpr std::uint32_t upstream_buffer_size = 4096;
constexpr std::uint32_t upstream_buffers = 1024;
constexpr std::uint32_t upstream_offer = 64;
// Room for what ringmx puts together itself: replies, and pieces too small to be worth a receive buffer.
constexpr std::uint32_t text_block_size = 1024;
constexpr std::uint32_t text_blocks_per_session = 8;
constexpr std::uint32_t least_text_blocks = 16 * 1024;
// Large ones make large messages cheap. The kernel is offered more of them than a batch of completions
// uses; but for bulk (see net::Stream) so few that they stay in the cache: who finds none is served in
// the next turn.
constexpr std::uint32_t receive_buffer = 64 * 1024;
constexpr std::uint32_t receive_offer = 64;
constexpr std::uint32_t bulk_offer = 8;
// A full TLS record.
constexpr std::uint32_t record_block_size =
    (tls::Records::max_plain + tls::Records::max_overhead + 63) / 64 * 64;
// drain_timeout is over: so long for the last 421s to be read.
constexpr ring::Duration last_words{1000};

constexpr std::uint16_t client_group = 1;
constexpr std::uint16_t upstream_group = 2;
constexpr std::uint16_t bulk_group = 4;

std::string hexadecimal(std::uint64_t n) {
  std::array<char, 16> text{};
  return {text.data(), std::to_chars(text.data(), text.data() + text.size(), n, 16).ptr};
}

std::uint32_t receive_buffers(const config::Server& server) {
  return static_cast<std::uint32_t>(server.receive_memory / receive_buffer);
}

}  // namespace

Worker::Worker(ring::Reactor& reactor, const config::Config& config, metrics::ReactorCounters& counters,
               std::vector<net::Socket> sockets, const TlsMaterial& material,
               const policy::Policies& policies, const Offload& offload)
    : reactor_(reactor),
      config_(config),
      offload_(offload),
      counters_(counters),
      client_pool_(receive_buffer, receive_buffers(config.server)),
      bulk_buffers_(reactor, client_pool_, bulk_group, std::min(bulk_offer, client_pool_.blocks() / 4),
                    std::min(bulk_offer, client_pool_.blocks() / 4)),
      client_buffers_(reactor, client_pool_, client_group, std::min(receive_offer, client_pool_.blocks() / 2),
                      client_pool_.blocks() / 2),
      upstream_pool_(upstream_buffer_size, upstream_buffers),
      upstream_buffers_(reactor, upstream_pool_, upstream_group, upstream_offer, upstream_buffers),
      text_(text_block_size,
            std::max(least_text_blocks, config.server.max_sessions * text_blocks_per_session)),
      records_(record_block_size,
               static_cast<std::uint32_t>(config.server.receive_memory / record_block_size)) {
  for (std::size_t i = 0; i < config.upstreams.size(); ++i) {
    pools_.push_back(std::make_unique<UpstreamPool>(
        reactor_, net::StreamMemory{upstream_buffers_, upstream_buffers_, text_, &records_},
        traffic(metrics::Side::upstream), config.upstreams[i], config.server.hostname, offload_, log_,
        counters, counters.upstreams[i], static_cast<UpstreamPool::Owner&>(*this)));
  }
  for (std::size_t i = 0; i < config.services.size(); ++i) {
    services_.push_back(std::make_unique<Service>(
        reactor_, net::StreamMemory{upstream_buffers_, upstream_buffers_, text_, &records_},
        config.services[i], offload_, log_, counters, counters.services[i],
        static_cast<Service::Owner&>(*this)));
  }
  // The number of a ring is its reactor's alone for as long as the process lives.
  instance_prefix_ = hexadecimal(static_cast<std::uint64_t>(::getpid())) + "." +
                     hexadecimal(static_cast<std::uint64_t>(std::time(nullptr))) + "." +
                     hexadecimal(static_cast<std::uint64_t>(reactor_.ring_fd())) + ".";
  listeners_.resize(config.listeners.size());
  for (std::size_t i = 0; i < listeners_.size(); ++i) {
    const config::Listener& c = config.listeners[i];
    ListenerContext& listener = listeners_[i];
    listener.config = &c;
    listener.counters = &counters.listeners[i];
    listener.rules = config::session_rules(c);
    listener.policy = &policies.listeners[i];
    listener.line_limit = smtp::longest_line(listener.rules, c.extensions);
    listener.greeting = "220 " + config.server.hostname + (c.banner.empty() ? "" : " ") + c.banner + "\r\n";
    listener.helo_reply = "250 " + config.server.hostname + "\r\n";
    for (std::size_t u = 0; u < config.upstreams.size(); ++u) {
      const bool named =
          std::find(c.upstreams.begin(), c.upstreams.end(), config.upstreams[u].name) != c.upstreams.end();
      if (c.upstreams.empty() || named) listener.upstreams.push_back(pools_[u].get());
    }
    if (c.uses_tls() && c.handshake_rate != 0) {
      std::random_device random;
      listener.handshakes.emplace(policy::Rate::per_minute(c.handshake_rate),
                                  std::uint64_t{random()} << 32 | random());
    }
    for (const std::string& name : c.services) {
      for (auto& service : services_) {
        if (service->config().name != name) continue;
        for (std::size_t step = 0; step < policy::step_count; ++step) {
          if (service->config().steps.has(static_cast<policy::Step>(step)))
            listener.services[step].push_back(service.get());
        }
        if (service->config().protocol == config::Service::Protocol::auth_http) listener.any_upstream = true;
      }
    }
    for (std::size_t s = 0; s < policy::step_count; ++s) {
      const auto step = static_cast<policy::Step>(s);
      if (listener.policy->asks(step) || !listener.services[s].empty()) listener.decided.add(step);
    }
    if (!c.services.empty()) listener.decided.add(policy::Step::mail);  // a transaction begins
    listener.remembers = !c.services.empty() || listener.policy->asks_for_earlier_steps();
    for (const Service* service : listener.services[static_cast<std::size_t>(policy::Step::data)]) {
      if (service->config().protocol == config::Service::Protocol::policy)
        listener.remembers_recipient = true;
    }
    offer(listener);
    listener.acceptor = std::make_unique<net::Acceptor>(reactor_, static_cast<net::Acceptor::Owner&>(*this),
                                                        std::move(sockets[i]), static_cast<std::uint32_t>(i));
  }
  use(material);
}

Worker::~Worker() = default;

void Worker::use(const TlsMaterial& material) {
  TlsContexts contexts = make_tls_contexts(config_, material);
  for (std::size_t i = 0; i < listeners_.size(); ++i) listeners_[i].tls = std::move(contexts.listeners[i]);
  for (std::size_t i = 0; i < pools_.size(); ++i) {
    if (contexts.upstreams[i]) pools_[i]->use(std::move(contexts.upstreams[i]));
  }
  for (std::size_t i = 0; i < services_.size(); ++i) {
    if (contexts.services[i]) services_[i]->use(std::move(contexts.services[i]));
  }
}

void Worker::start() {
  for (ListenerContext& listener : listeners_) listener.acceptor->start();
}

// Extensions that say something about the message's whole way are offered if all upstreams that are
// known offer them; until one is known, what the configuration allows. The size limit is the smallest
// of all.
void Worker::offer(ListenerContext& listener) {
  const config::Listener& c = *listener.config;
  smtp::ExtensionSet common = smtp::ExtensionSet::all();
  constexpr std::uint64_t unlimited = std::numeric_limits<std::uint64_t>::max();
  std::uint64_t size_limit = c.message_size_limit == 0 ? unlimited : c.message_size_limit;
  const auto consider = [&](const UpstreamPool& pool) {
    if (const smtp::Capabilities* known = pool.capabilities()) {
      common = common & (known->extensions | smtp::hop_by_hop);
      if (known->size_limit != 0) size_limit = std::min(size_limit, known->size_limit);
    } else {
      common.remove(smtp::Extension::requiretls);  // not to be promised in good faith
    }
  };
  if (listener.any_upstream) {
    for (const auto& pool : pools_) consider(*pool);
  } else {
    for (const UpstreamPool* pool : listener.upstreams) consider(*pool);
  }
  listener.offered = {.extensions = c.extensions & common,
                      .size_limit = size_limit == unlimited ? 0 : size_limit};
  listener.rules.message_size_limit = listener.offered.size_limit;  // for SIZE= in MAIL
  listener.ehlo_reply_in_tls = smtp::format_ehlo_reply(config_.server.hostname, listener.offered);
  listener.offered_in_clear = listener.offered;
  listener.offered_in_clear.extensions.remove(smtp::Extension::requiretls);
  if (c.starttls != smtp::StartTls::off) listener.offered_in_clear.extensions.add(smtp::Extension::starttls);
  listener.ehlo_reply = smtp::format_ehlo_reply(config_.server.hostname, listener.offered_in_clear);
}

UpstreamPool* Worker::find_upstream(std::string_view name, std::string_view address) {
  config::Endpoint endpoint;
  const bool by_address = name.empty() && !config::parse_endpoint(address, endpoint);
  for (std::size_t i = 0; i < pools_.size(); ++i) {
    const config::Upstream& upstream = config_.upstreams[i];
    if (by_address ? upstream.address == endpoint : upstream.name == name) return pools_[i].get();
  }
  return nullptr;
}

std::string Worker::new_instance() {
  return instance_prefix_ + hexadecimal(++instances_);
}

void Worker::capabilities_changed() {
  for (ListenerContext& listener : listeners_) offer(listener);
}

void Worker::accepted(net::Acceptor& acceptor, int fd) {
  ListenerContext& listener = listeners_[acceptor.id()];
  const bool full = clients_.size() >= config_.server.max_sessions;
  if (full || draining_) {
    listener.counters->rejected[full ? metrics::Reject::session_limit : metrics::Reject::draining].add();
    const std::string_view text = full ? smtp::replies::too_many_connections : smtp::replies::shutting_down;
    // Into an empty socket buffer: it fits, or the peer has gone.
    [[maybe_unused]] const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    ::close(fd);
    return;
  }
  if (listener.config->implicit_tls && !may_shake_hands(listener, fd)) {
    listener.counters->rejected[metrics::Reject::handshake_rate].add();
    ::close(fd);
    return;
  }
  listener.counters->accepted.add();
  listener.counters->current.add(1);
  Client& client = *clients_.emplace_back(std::make_unique<Client>(*this, listener, fd));
  client.index_ = static_cast<std::uint32_t>(clients_.size() - 1);
  client.start();
}

void Worker::accept_starved(net::Acceptor& acceptor, int) {
  listeners_[acceptor.id()].counters->rejected[metrics::Reject::descriptors].add();
}

bool Worker::may_shake_hands(ListenerContext& listener, int fd) {
  if (!listener.handshakes) return true;
  const auto peer = net::Address::peer_of(fd);
  if (!peer) return true;  // it has gone, and will not shake hands
  const std::span<const std::uint8_t> host = peer->host();
  if (host.empty()) return true;  // a unix socket has no networks
  const policy::NetworkKey network =
      host.size() == 4 ? policy::network_of_ipv4(host.first<4>()) : policy::network_of_ipv6(host.first<16>());
  if (listener.handshakes->take(network, reactor_.now().time_since_epoch().count())) return true;
  listener.counters->handshake_failures[metrics::HandshakeFailure::rate_limited].add();
  log_.line("listener " + listener.config->name + ": TLS handshake with " + peer->text() +
            " refused: rate_limited: more than " + std::to_string(listener.config->handshake_rate) +
            " a minute from its network");
  return false;
}

void Worker::client_closed(Client& client) {
  client.listener_.counters->current.add(-1);
  const std::uint32_t index = client.index_;
  clients_.back()->index_ = index;
  std::swap(clients_[index], clients_.back());
  clients_.pop_back();
  if (draining_) stop_when_empty();
}

void Worker::drain(std::function<void()> drained) {
  if (draining_) return;
  draining_ = true;
  drained_ = std::move(drained);
  counters_.draining.set(1);
  for (ListenerContext& listener : listeners_) listener.acceptor->stop();
  for (auto& pool : pools_) pool->drain();
  for (auto& service : services_) service->drain();
  for (auto& client : clients_) client->drain();
  reactor_.timers().set(drain_timer_, reactor_.now() + config_.server.drain_timeout);
}

void Worker::drain_over() {
  if (!closing_) {
    closing_ = true;
    for (auto& client : clients_) client->shut_down();
    for (auto& pool : pools_) pool->close_all();
    for (auto& service : services_) service->close_all();
    reactor_.timers().set(drain_timer_, reactor_.now() + last_words);
    return;
  }
  for (auto& client : clients_) client->stream_.close();
}

void Worker::acceptor_closed(net::Acceptor&) {
  stop_when_empty();
}
void Worker::connection_closed() {
  if (draining_) stop_when_empty();
}

void Worker::stop_when_empty() {
  const auto closed = [](const ListenerContext& l) { return l.acceptor->closed(); };
  const auto empty = [](const auto& pool) { return pool->connections() == 0; };
  if (!clients_.empty() || !std::all_of(listeners_.begin(), listeners_.end(), closed) ||
      !std::all_of(pools_.begin(), pools_.end(), empty) ||
      !std::all_of(services_.begin(), services_.end(), empty) || !drained_) {
    return;
  }
  reactor_.timers().clear(drain_timer_);
  std::exchange(drained_, nullptr)();
}

}  // namespace ringmx::gateway
