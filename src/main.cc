// SPDX-License-Identifier: GPL-3.0-or-later
//
// Wiring, top to bottom: read the configuration, open the sockets, give every core its reactor and
// its worker, then wait for signals.

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <filesystem>
#include <functional>
#include <future>
#include <iostream>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "admin/server.h"
#include "config/config.h"
#include "config/explanation.h"
#include "gateway/address.h"
#include "gateway/tls_material.h"
#include "gateway/worker.h"
#include "metrics/counters.h"
#include "metrics/exposition.h"
#include "net/listen.h"
#include "nginx/files.h"
#include "nginx/translation.h"
#include "policy/rules.h"
#include "ring/messenger.h"
#include "ring/probe.h"
#include "ring/reactor.h"
#include "ringmx/smtp/command.h"
#include "ringmx/smtp/dialogue.h"
#include "ringmx/smtp/scanner.h"

namespace ringmx {
namespace {

constexpr int usage_error = 2;
// Messages to the cores.
constexpr unsigned drain_message = 1;   // no new sessions, and say when the last one is over
constexpr unsigned stop_message = 2;    // all cores are drained: close what is left and return
constexpr unsigned reload_message = 3;  // there are new certificates

constexpr std::string_view usage =
    "usage: ringmx run --config FILE     run in the foreground; SIGTERM drains\n"
    "       ringmx check --config FILE   say what FILE lets clients do and exit 0, or what is wrong and exit "
    "1\n"
    "       ringmx explain --config FILE OPTIONS   say what becomes of a session, and which rule decides\n"
    "       ringmx import-nginx NGINX.CONF [--output FILE]   make a configuration of nginx's mail {}\n"
    "       ringmx --version\n";

// One line per event, for the journal.
void log(std::string_view text) {
  std::cerr << (std::string("ringmx: ").append(text).append("\n")) << std::flush;
}

bool load(const std::string& file, config::Config& config, policy::Policies& policies) {
  std::vector<config::Problem> problems;
  if (config::load(file, config, problems) && config::load_policies(config, policies, problems)) {
#ifdef __GLIBC__
    malloc_trim(0);  // what lists of a million lines were read into
#endif
    return true;
  }
  for (const config::Problem& problem : problems) std::cerr << problem.text() << '\n';
  return false;
}

// As many descriptors as the system lets us have; sessions for which there could be none are not
// taken, so that those that are can have their upstream connections.
void fit_to_descriptors(config::Config& config) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  std::uint64_t of_a_reactor = config.listeners.size() + 4;
  for (const config::Service& service : config.services) of_a_reactor += service.max_connections;
  const std::uint64_t reserve = 32 + config.metrics.max_connections + of_a_reactor * config.server.reactors;
  const std::uint64_t usable = limit.rlim_cur > reserve ? limit.rlim_cur - reserve : 0;
  const std::uint64_t sessions = std::max<std::uint64_t>(usable / 2 / config.server.reactors, 1);
  if (sessions < config.server.max_sessions) {
    log("warning: " + std::to_string(limit.rlim_cur) + " open files (ulimit -n, LimitNOFILE=) allow " +
        std::to_string(sessions) +
        " sessions per reactor, not max_sessions = " + std::to_string(config.server.max_sessions));
    config.server.max_sessions = static_cast<std::uint32_t>(sessions);
  }
}

// Certificates and keys, for all cores; replaced on SIGHUP.
class SharedTlsMaterial {
 public:
  // False, and the old ones stay: the new ones are wrong, as has been said.
  bool load(const config::Config& config) {
    gateway::LoadedTlsMaterial loaded = gateway::load_tls_material(config, secret_);
    for (const std::string& warning : loaded.warnings) log("warning: " + warning);
    for (const std::string& error : loaded.errors) log(error);
    if (!loaded.material) return false;
    const std::lock_guard lock(mutex_);
    material_ = std::move(loaded.material);
    return true;
  }
  [[nodiscard]] std::shared_ptr<const gateway::TlsMaterial> get() {
    const std::lock_guard lock(mutex_);
    return material_;
  }

 private:
  const tls::TicketKeys::Secret secret_ = tls::TicketKeys::random_secret();
  std::mutex mutex_;
  std::shared_ptr<const gateway::TlsMaterial> material_;
};

// Everything that one core owns, made and run on its thread.
class Core {
 public:
  // `drained` is called on the core's thread.
  Core(const config::Config& config, metrics::ReactorCounters& counters, std::vector<net::Socket> sockets,
       SharedTlsMaterial& material, const policy::Policies& policies, const gateway::Offload& offload,
       std::function<void()> drained)
      : reactor_(counters.uring),
        material_(material),
        worker_(reactor_, config, counters, std::move(sockets), *material.get(), policies, offload),
        drained_(std::move(drained)) {
    reactor_.on_message(
        [](void* context, unsigned message) {
          Core& core = *static_cast<Core*>(context);
          if (message == drain_message) core.worker_.drain(core.drained_);
          if (message == stop_message) core.stop();
          if (message == reload_message) core.reload();
        },
        this);
  }

  void serve_admin(net::Socket socket, std::uint32_t max_connections, admin::Pages pages) {
    admin_ = std::make_unique<admin::Server>(reactor_, std::move(socket), max_connections, std::move(pages));
    admin_->start();
  }
  [[nodiscard]] int ring_fd() const { return reactor_.ring_fd(); }
  void run() {
    worker_.start();
    reactor_.run();
  }

 private:
  void reload() {
    try {
      worker_.use(*material_.get());
    } catch (const std::exception& e) {
      log(std::string("a reactor keeps the old certificates and ticket keys: ") + e.what());
    }
  }
  void stop() {
    if (admin_) {
      admin_->close([this] { reactor_.stop(); });
    } else {
      reactor_.stop();
    }
  }

  ring::Reactor reactor_;
  SharedTlsMaterial& material_;
  gateway::Worker worker_;
  std::function<void()> drained_;
  std::unique_ptr<admin::Server> admin_;
};

metrics::Sources metric_sources(const config::Config& config,
                                const std::vector<std::unique_ptr<metrics::ReactorCounters>>& counters) {
  metrics::Sources sources;
  sources.version = RINGMX_VERSION;
  for (const auto& listener : config.listeners) sources.listener_names.push_back(listener.name);
  for (const auto& upstream : config.upstreams) sources.upstream_names.push_back(upstream.name);
  for (const auto& rule : config.rules) sources.rule_names.push_back(rule.name);
  for (const auto& service : config.services) sources.service_names.push_back(service.name);
  for (const auto& c : counters) sources.reactors.push_back(c.get());
  for (std::size_t v = 0; v < smtp::verb_count; ++v) {
    sources.verb_names.emplace_back(smtp::verb_name(static_cast<smtp::Verb>(v)));
  }
  for (std::size_t s = 0; s < smtp::stage_count; ++s) {
    sources.stage_names.emplace_back(smtp::stage_name(static_cast<smtp::Stage>(s)));
  }
  return sources;
}

std::vector<metrics::Certificate> certificates(const config::Config& config,
                                               const gateway::TlsMaterial& material) {
  std::vector<metrics::Certificate> all;
  for (std::size_t i = 0; i < material.listeners.size(); ++i) {
    if (material.listeners[i] == nullptr) continue;
    std::vector<std::string_view> seen;  // one may be there for several names
    for (const tls::Material::Certificate& c : material.listeners[i]->certificates()) {
      if (std::find(seen.begin(), seen.end(), c.path) != seen.end()) continue;
      seen.push_back(c.path);
      all.push_back({config.listeners[i].name, c.path, c.not_after});
    }
  }
  return all;
}

int run(const std::string& file) {
  config::Config config;
  policy::Policies policies;
  if (!load(file, config, policies)) return 1;
  for (const std::string& warning : config::policy_warnings(config, policies)) log("warning: " + warning);
  if (config.server.reactors == 0) config.server.reactors = std::max(1u, std::thread::hardware_concurrency());
  const unsigned reactors = config.server.reactors;
  fit_to_descriptors(config);
  const ring::Probe probe = ring::probe();
  if (!probe.usable) {
    log(probe.summary);
    return 1;
  }
  log(probe.summary + "; scanner " + smtp::active_scan_kernel().name + "; " + std::to_string(reactors) +
      (reactors == 1 ? " reactor" : " reactors"));

  SharedTlsMaterial material;
  if (!material.load(config)) return 1;
  gateway::Offload offload{.wanted = config.tls.ktls, .kernel = {}};
  const auto uses_tls = [](const auto& one) { return one.uses_tls(); };
  const bool tls_used = std::any_of(config.listeners.begin(), config.listeners.end(), uses_tls) ||
                        std::any_of(config.upstreams.begin(), config.upstreams.end(), uses_tls) ||
                        std::any_of(config.services.begin(), config.services.end(), uses_tls);
  if (tls_used && offload.wanted != tls::Offload::off) {
    offload.kernel = net::probe_kernel_tls();
    log("kernel TLS: " + offload.kernel.summary);
    if (offload.wanted == tls::Offload::require && !offload.kernel.available) {
      log("tls.ktls = \"require\", and there is none; write \"auto\" to go on without");
      return 1;
    }
  }

  // Signals are for this thread alone; the reactors' threads inherit the mask.
  sigset_t signals;
  sigemptyset(&signals);
  for (const int s : {SIGTERM, SIGINT, SIGHUP, SIGUSR1}) sigaddset(&signals, s);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  signal(SIGPIPE, SIG_IGN);  // whoever reads standard error may go; mail goes on

  std::vector<std::vector<net::Socket>> sockets(reactors);
  for (const config::Listener& listener : config.listeners) {
    auto own =
        net::listen(gateway::socket_address(listener.address), reactors, static_cast<int>(listener.backlog));
    for (unsigned r = 0; r < reactors; ++r) sockets[r].push_back(std::move(own[r]));
  }
  net::Socket admin_socket;
  if (config.metrics.enabled) {
    admin_socket = std::move(net::listen(gateway::socket_address(config.metrics.address), 1, 128).front());
  }

  std::vector<std::unique_ptr<metrics::ReactorCounters>> counters;
  for (unsigned r = 0; r < reactors; ++r) {
    counters.push_back(std::make_unique<metrics::ReactorCounters>(
        config.listeners.size(), config.upstreams.size(), config.rules.size(), config.services.size()));
  }
  metrics::Sources sources = metric_sources(config, counters);
  sources.certificates = [&config, &material] { return certificates(config, *material.get()); };
  const admin::Pages pages{.metrics =
                               [&sources](std::string_view accept, std::string& content_type) {
                                 const metrics::Format format = metrics::negotiate(accept);
                                 content_type = metrics::content_type(format);
                                 return metrics::expose(sources, format);
                               },
                           .ready = [&counters] { return counters.front()->draining.value() == 0; }};

  std::vector<std::thread> threads;
  std::vector<int> ring_fds;
  // The operator's pages are there until the last core is drained.
  std::atomic<unsigned> drained{0};
  const auto core_drained = [&drained] {
    ++drained;
    kill(getpid(), SIGUSR1);  // the main thread waits for signals only
  };
  for (unsigned r = 0; r < reactors; ++r) {
    std::promise<int> started;
    std::future<int> ring_fd = started.get_future();
    threads.emplace_back([&, r, started = std::move(started)]() mutable {
      bool running = false;
      try {
        Core core(config, *counters[r], std::move(sockets[r]), material, policies, offload, core_drained);
        if (r == 0 && config.metrics.enabled) {
          core.serve_admin(std::move(admin_socket), config.metrics.max_connections, pages);
        }
        running = true;
        started.set_value(core.ring_fd());
        core.run();
      } catch (const std::exception& e) {
        if (running) {
          // Its sessions are lost in any case; a new process serves better than one without a core.
          log("reactor " + std::to_string(r) + ": " + e.what());
          _exit(1);
        }
        started.set_exception(std::current_exception());
      }
    });
    try {
      ring_fds.push_back(ring_fd.get());
    } catch (const std::exception& e) {
      log("reactor " + std::to_string(r) + " can't start: " + e.what());
      _exit(1);
    }
  }
  std::cerr << "ready\n" << std::flush;

  ring::Messenger messenger;
  const auto tell_all = [&](unsigned message) {
    for (const int fd : ring_fds) {
      if (messenger.send(fd, message) != 0) _exit(1);
    }
  };
  bool draining = false;
  while (drained.load() < reactors) {
    int signal = 0;
    if (sigwait(&signals, &signal) != 0 || signal == SIGUSR1) continue;
    if (signal == SIGHUP) {
      if (material.load(config)) {
        tell_all(reload_message);
        log("reloaded certificates and ticket keys");
      } else {
        log("SIGHUP: the certificates and ticket keys stay as they were");
      }
      continue;
    }
    if (draining) _exit(1);  // a second signal means now
    draining = true;
    log("draining");
    tell_all(drain_message);
  }
  tell_all(stop_message);
  for (std::thread& thread : threads) thread.join();
  log("stopped");
  return 0;
}

int explain(const std::string& file, std::span<const std::string_view> options) {
  config::Question question;
  auto fault = config::parse_question(options, question);
  config::Config config;
  policy::Policies policies;
  if (!fault && !load(file, config, policies)) return 1;
  std::string text;
  if (!fault) fault = config::explain(config, policies, question, text);
  if (fault) {
    std::cerr << fault->message << "; " << fault->mend << '\n';
    return usage_error;
  }
  std::cout << text;
  return 0;
}

// Makes a configuration of nginx's. Standard error says what needs the operator.
int import_nginx(std::string_view file, const std::string& output) {
  // nginx's own paths begin in the folder of its configuration, those of the result in the folder of that.
  const nginx::Translation result =
      nginx::import_file(std::filesystem::absolute(file).lexically_normal().string(), nginx::system_files());
  for (const nginx::Finding& finding : result.findings) std::cerr << finding.line() << '\n';
  if (result.problem) {
    std::cerr << result.problem->text() << '\n';
    return 1;
  }
  std::string error;
  if (output.empty()) {
    std::cout << result.text << std::flush;
    if (!std::cout) error = "standard output can't be written";
  } else if (!nginx::write_new_file(output, result.text, error)) {
    error = output + " can't be made: " + error + "; name another file";
  }
  if (!error.empty()) log(error);
  return error.empty() ? 0 : 1;
}

int main(std::vector<std::string_view> arguments) {
  if (arguments.size() == 1 && arguments[0] == "--version") {
    std::cout << "ringmx " RINGMX_VERSION " (" RINGMX_TLS ")\n";
    return 0;
  }
  if (arguments.size() == 1 && (arguments[0] == "--help" || arguments[0] == "help")) {
    std::cout << usage;
    return 0;
  }
  if (arguments.size() == 2 && arguments[0] == "import-nginx" && !arguments[1].starts_with('-'))
    return import_nginx(arguments[1], "");
  if (arguments.size() == 4 && arguments[0] == "import-nginx" && arguments[2] == "--output")
    return import_nginx(arguments[1], std::string(arguments[3]));
  if (arguments.size() == 3 && arguments[1] == "--config") {
    const std::string file(arguments[2]);
    if (arguments[0] == "run") return run(file);
    if (arguments[0] == "check") {
      config::Config config;
      policy::Policies policies;
      if (!load(file, config, policies) || !SharedTlsMaterial().load(config)) return 1;
      std::cout << file << ": ok\n" << config::explain_listeners(config, policies);
      for (const std::string& warning : config::policy_warnings(config, policies))
        std::cout << "warning: " << warning << '\n';
      return 0;
    }
  }
  if (arguments.size() >= 3 && arguments[0] == "explain" && arguments[1] == "--config")
    return explain(std::string(arguments[2]), std::span(arguments).subspan(3));
  std::cerr << usage;
  return usage_error;
}

}  // namespace
}  // namespace ringmx

int main(int argc, char** argv) {
  try {
    return ringmx::main(std::vector<std::string_view>(argv + 1, argv + argc));
  } catch (const std::exception& e) {
    ringmx::log(e.what());
    return 1;
  }
}
