// SPDX-License-Identifier: GPL-3.0-or-later
//
// ringmx-load: reads the options, gives each thread a reactor and a generator, shows how it goes, and
// reports.

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <exception>
#include <fstream>
#include <future>
#include <iostream>
#include <latch>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "load/generator.h"
#include "load/mail.h"
#include "load/options.h"
#include "load/report.h"
#include "load/resolve.h"
#include "load/statistics.h"
#include "ring/messenger.h"
#include "ring/probe.h"
#include "ring/reactor.h"

namespace ringmx::load {
namespace {

constexpr int unsatisfied = 1;
constexpr int cannot_run = 2;
constexpr unsigned stop_message = 1;
constexpr unsigned head_every = 20;  // lines of progress

void complain(std::string_view text) {
  std::cerr << (std::string("ringmx-load: ").append(text).append("\n")) << std::flush;
}

std::string host_name() {
  std::array<char, 256> name{};
  return gethostname(name.data(), name.size() - 1) == 0 && name[0] != 0 ? name.data() : "localhost";
}

std::string date() {
  const std::time_t now = std::time(nullptr);
  std::tm fields{};
  std::array<char, 64> text{};
  gmtime_r(&now, &fields);
  std::strftime(text.data(), text.size(), "%a, %d %b %Y %H:%M:%S +0000", &fields);
  return text.data();
}

std::string run_name() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::to_string(std::chrono::duration_cast<std::chrono::microseconds>(now).count()) + "." +
         std::to_string(getpid());
}

void need_descriptors(std::uint64_t sessions, unsigned threads) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  getrlimit(RLIMIT_NOFILE, &limit);
  const std::uint64_t needed = sessions + threads + 32;
  if (needed > limit.rlim_cur) {
    throw std::runtime_error(std::to_string(sessions) + " sessions need " + std::to_string(needed) +
                             " open files, the limit is " + std::to_string(limit.rlim_cur) + " (ulimit -n)");
  }
}

net::Address choose_target(const Options& options) {
  const net::Address target = resolve(options.target, options.connect_timeout);
  if (!is_local(target) && !options.allow_remote) {
    throw std::runtime_error(
        target.text() + " is not on this machine. If it is yours and may be put under load: --allow-remote");
  }
  if (const std::string& from = options.source.address; !from.empty()) {
    const auto source = net::Address::ip(from, 0);
    if (!source || source->family() != target.family()) {
      throw std::runtime_error("--source: " + from + " is no address from which to reach " + target.text());
    }
  }
  return target;
}

class Run {
 public:
  explicit Run(Options options)
      : options_(std::move(options)), target_(choose_target(options_)), mail_(options_.mail) {
    if (options_.threads == 0) options_.threads = std::max(1u, std::thread::hardware_concurrency());
    options_.threads = static_cast<unsigned>(std::min<std::uint64_t>(options_.threads, options_.sessions));
    need_descriptors(options_.sessions, options_.threads);
    if (!options_.json.empty() && options_.json != "-") {
      json_.open(options_.json);
      if (!json_) throw std::runtime_error(options_.json + ": " + std::strerror(errno));
    }
    live_ = !options_.quiet && (options_.progress || isatty(STDERR_FILENO) == 1);
  }

  int run() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int s : {SIGINT, SIGTERM, SIGUSR1}) sigaddset(&signals, s);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    signal(SIGPIPE, SIG_IGN);
    start_threads();
    watch(signals);
    for (std::thread& thread : threads_) thread.join();
    return report();
  }

 private:
  void start_threads();
  void run_thread(unsigned number, std::promise<int>& ring_fd);
  void watch(const sigset_t& signals);
  void show_progress(Nanoseconds time);
  void collect_samples();
  int report();

  Options options_;
  net::Address target_;
  Mail mail_;
  std::ofstream json_;
  bool live_ = false;  // somebody looks at standard error while it runs

  std::vector<std::unique_ptr<Statistics>> statistics_;  // of the threads
  std::vector<std::thread> threads_;
  std::vector<int> ring_fds_;
  std::latch begin_{1};
  std::atomic<unsigned> done_{0};
  pthread_t main_thread_ = pthread_self();

  SampleLog sample_log_;
  std::map<std::string, std::uint64_t> sampled_;  // how many of each kind
  Results results_;
  Progress progress_;
  unsigned lines_ = 0;
};

void Run::start_threads() {
  for (unsigned number = 0; number < options_.threads; ++number) {
    statistics_.push_back(std::make_unique<Statistics>());
    std::promise<int> ring_fd;
    auto made = ring_fd.get_future();
    threads_.emplace_back([this, number, &ring_fd] { run_thread(number, ring_fd); });
    ring_fds_.push_back(made.get());
  }
  begin_.count_down();
}

void Run::run_thread(unsigned number, std::promise<int>& ring_fd) {
  try {
    ring::ReactorStatistics uring;
    ring::Reactor reactor(uring);
    Generator generator(reactor, options_, mail_, target_, number, options_.threads, *statistics_[number],
                        sample_log_);
    reactor.on_message([](void* context, unsigned) { static_cast<Generator*>(context)->stop(); }, &generator);
    ring_fd.set_value(reactor.ring_fd());
    begin_.wait();
    generator.start();
    reactor.run();
  } catch (const std::exception& e) {
    // Half a load is none.
    complain(e.what());
    _exit(cannot_run);
  }
  ++done_;
  pthread_kill(main_thread_, SIGUSR1);
}

// Until all threads are done.
void Run::watch(const sigset_t& signals) {
  using Clock = std::chrono::steady_clock;
  ring::Messenger messenger;
  const Clock::time_point start = Clock::now();
  Clock::time_point next = start + std::chrono::seconds(1);
  while (done_ < options_.threads) {
    const auto left = std::max<Clock::duration>(next - Clock::now(), Clock::duration::zero());
    const timespec patience{.tv_sec = left / std::chrono::seconds(1),
                            .tv_nsec = std::chrono::nanoseconds(left % std::chrono::seconds(1)).count()};
    const int signal = sigtimedwait(&signals, nullptr, &patience);
    if (signal == SIGINT || signal == SIGTERM) {
      results_.interrupted = true;
      // One that has ended by now has no ring any more, which is no matter.
      for (const int fd : ring_fds_) messenger.send(fd, stop_message);
    }
    if (Clock::now() < next) continue;
    next += std::chrono::seconds(1);
    if (live_) show_progress(std::chrono::nanoseconds(Clock::now() - start).count());
    collect_samples();
  }
}

void Run::show_progress(Nanoseconds time) {
  Totals totals;
  Distribution messages;
  for (const auto& one : statistics_) {
    one->add_to(totals);
    messages.add(one->span(Span::message));
  }
  if (lines_++ % head_every == 0) std::cerr << Progress::head();
  std::cerr << progress_.line(time, totals, messages) << std::flush;
}

void Run::collect_samples() {
  for (Sample& sample : sample_log_.take()) {
    if (++sampled_[sample.kind] > Generator::samples_of_a_kind) continue;
    if (live_ || options_.quiet) complain(sample.kind + ": " + sample.text);
    results_.samples.push_back(std::move(sample));
  }
}

int Run::report() {
  collect_samples();
  for (const auto& one : statistics_) results_.add(*one);
  const std::string target = target_.text();
  std::ostream& text = options_.json == "-" ? std::cerr : std::cout;
  if (live_) text << '\n';
  if (!options_.quiet) text << text_report(options_, target, results_) << std::flush;
  if (!options_.json.empty()) {
    std::ostream& out = options_.json == "-" ? std::cout : json_;
    out << json_report(options_, target, results_) << std::flush;
    if (!out) throw std::runtime_error(options_.json + ": could not be written");
  }
  return satisfied(options_, results_) ? 0 : unsatisfied;
}

int main(const std::vector<std::string_view>& arguments) {
  CommandLine line = parse_command_line(arguments);
  switch (line.wish) {
    case CommandLine::Wish::help:
      std::cout << help_text();
      return 0;
    case CommandLine::Wish::version:
      std::cout << "ringmx-load " RINGMX_VERSION "\n";
      return 0;
    case CommandLine::Wish::complain:
      complain(line.problem);
      return cannot_run;
    case CommandLine::Wish::run:
      break;
  }
  if (const ring::Probe probe = ring::probe(); !probe.usable) throw std::runtime_error(probe.summary);
  MailOptions& mail = line.options.mail;
  if (!line.options.helo_given) mail.helo = Pattern::literal(host_name());
  mail.date = date();
  mail.run = run_name();
  Run run(std::move(line.options));
  return run.run();
}

}  // namespace
}  // namespace ringmx::load

int main(int argc, char** argv) {
  try {
    return ringmx::load::main(std::vector<std::string_view>(argv + 1, argv + argc));
  } catch (const std::exception& e) {
    ringmx::load::complain(e.what());
    return ringmx::load::cannot_run;
  }
}
