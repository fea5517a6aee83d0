// SPDX-License-Identifier: GPL-3.0-or-later
#include "gateway/tls_material.h"

#include <algorithm>
#include <cstddef>
#include <exception>
#include <utility>

#include "tls/load.h"

namespace ringmx::gateway {

LoadedTlsMaterial load_tls_material(const config::Config& config, const tls::TicketKeys::Secret& secret) {
  LoadedTlsMaterial loaded;
  auto material = std::make_shared<TlsMaterial>();
  // Listeners share certificates, and so what is wrong with them.
  const auto add = [](std::vector<std::string>& to, const std::vector<std::string>& more) {
    for (const std::string& one : more) {
      if (std::find(to.begin(), to.end(), one) == to.end()) to.push_back(one);
    }
  };
  const config::Listener* with_tls = nullptr;
  for (const config::Listener& listener : config.listeners) {
    material->listeners.emplace_back();
    if (!listener.uses_tls()) continue;
    with_tls = &listener;
    tls::CheckedMaterial checked = tls::load_material(config::server_settings(config, listener));
    material->listeners.back() = std::move(checked.material);
    add(loaded.errors, checked.errors);
    add(loaded.warnings, checked.warnings);
  }
  const auto load_cas = [&](std::vector<std::string>& to, const auto& part) {
    to.emplace_back();
    if (!part.uses_tls()) return;
    tls::LoadedCas cas = tls::load_cas(config::client_settings(config, part));
    to.back() = std::move(cas.cas);
    add(loaded.errors, cas.errors);
    add(loaded.warnings, cas.warnings);
  };
  for (const config::Upstream& upstream : config.upstreams) load_cas(material->upstream_cas, upstream);
  for (const config::Service& service : config.services) load_cas(material->service_cas, service);
  if (with_tls != nullptr) {
    tls::LoadedTicketKeys keys =
        tls::load_ticket_keys(config::server_settings(config, *with_tls).tickets, secret);
    material->ticket_keys = std::move(keys.keys);
    add(loaded.errors, keys.errors);
  }
  if (!loaded.errors.empty()) return loaded;
  // What the checks have let pass is to fail here, not on the cores.
  try {
    make_tls_contexts(config, *material);
    loaded.material = std::move(material);
  } catch (const std::exception& e) {
    loaded.errors.emplace_back(e.what());
  }
  return loaded;
}

TlsContexts make_tls_contexts(const config::Config& config, const TlsMaterial& material) {
  TlsContexts contexts;
  for (std::size_t i = 0; i < config.listeners.size(); ++i) {
    auto& context = contexts.listeners.emplace_back();
    if (material.listeners[i] == nullptr) continue;
    context = std::make_shared<const tls::ServerContext>(
        material.listeners[i], config::server_settings(config, config.listeners[i]), material.ticket_keys);
  }
  const auto add = [&](auto& to, const auto& part, const std::string& cas) {
    auto& context = to.emplace_back();
    if (part.uses_tls())
      context = std::make_shared<const tls::ClientContext>(config::client_settings(config, part), cas);
  };
  for (std::size_t i = 0; i < config.upstreams.size(); ++i)
    add(contexts.upstreams, config.upstreams[i], material.upstream_cas[i]);
  for (std::size_t i = 0; i < config.services.size(); ++i)
    add(contexts.services, config.services[i], material.service_cas[i]);
  return contexts;
}

}  // namespace ringmx::gateway
