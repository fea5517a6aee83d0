// SPDX-License-Identifier: GPL-3.0-or-later
#include "metrics/exposition.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <charconv>
#include <cstddef>
#include <optional>
#include <utility>

#include "metrics/process.h"

// The page is written from a table: a family has a name, a help text and one or more parts; a part
// is a set of series, spanned by its labels, with a function that finds the counter of one of them.
// A counter more in counters.h is a line more in families().

namespace ringmx::metrics {
namespace {

// The values that a label takes: a closed set, or one of the lists of the sources.
struct Label {
  std::string_view name;
  std::vector<std::string> values;
  std::vector<std::string> Sources::*listed = nullptr;
  [[nodiscard]] const std::vector<std::string>& in(const Sources& s) const {
    return listed == nullptr ? values : s.*listed;
  }
};

template <class Enum, std::size_t n>
Label closed_set(std::string_view name, const char* const (&values)[n]) {
  static_assert(n == static_cast<std::size_t>(Enum::count), "a value of the enum has no name");
  return {name, {std::begin(values), std::end(values)}};
}

Label constant(std::string_view name, std::string value) {
  return {name, {std::move(value)}};
}

struct Value {
  std::int64_t number;
  Value(const Counter& c) : number(static_cast<std::int64_t>(c.value())) {}
  Value(const Gauge& g) : number(g.value()) {}
};

using Index = std::array<std::size_t, 4>;  // of the value of each label

enum class Over : std::uint8_t { sum, max, each };  // reactors
struct Part {
  std::vector<Label> labels;
  Value (*value)(const ReactorCounters&, const Index&);
  Over over = Over::sum;
};

enum class Type : std::uint8_t { counter, gauge, info, histogram };

struct Family {
  Type type;
  std::string_view name;  // without ringmx_ and _total
  std::string_view help;
  std::vector<Part> parts;
};

using R = ReactorCounters;
using I = Index;

std::vector<Family> families() {
  const Label listener{"listener", {}, &Sources::listener_names};
  const Label upstream{"upstream", {}, &Sources::upstream_names};
  const Label service{"service", {}, &Sources::service_names};
  const auto service_answer =
      closed_set<ServiceAnswer>("result", {"allowed", "refused", "tempfailed", "wait"});
  const auto service_failure =
      closed_set<ServiceFailure>("reason", {"connect", "tls", "timeout", "closed", "bad_answer"});
  const auto service_connect = closed_set<ServiceConnect>("result", {"ok", "failed", "tls"});
  const Label verb{"verb", {}, &Sources::verb_names};
  const Label stage{"stage", {}, &Sources::stage_names};
  const Label reply_class{"class", {"2xx", "3xx", "4xx", "5xx"}};
  const auto rejected =
      closed_set<Reject>("reason", {"session_limit", "descriptors", "draining", "handshake_rate"});
  const auto closed = closed_set<Close>("reason", {"quit", "client_lost", "timeout", "too_slow", "errors",
                                                   "violation", "refused", "draining", "memory"});
  const auto closed_in = closed_set<ClosedIn>(
      "stage", {"greeting", "handshake", "command", "service_wait", "upstream_wait", "data", "reply"});
  const auto violation = closed_set<Violation>(
      "type", {"bare_lf_command", "bare_cr_command", "nul_command", "long_line", "unknown_command",
               "foreign_protocol", "early_talker", "unauth_pipelining", "starttls_injection",
               "bare_lf_message", "bare_cr_message", "nul_message", "tls_truncation"});
  const auto message = closed_set<MessageResult>("result", {"accepted", "refused", "tempfailed", "aborted"});
  const auto side = closed_set<Side>("side", {"client", "upstream"});
  const auto connect = closed_set<ConnectResult>(
      "result", {"ok", "refused", "timeout", "unreachable", "bad_greeting", "tls", "login", "error"});
  const auto loss =
      closed_set<UpstreamLoss>("reason", {"closed", "timeout", "bad_reply", "unsolicited", "error"});
  const auto failure = closed_set<HandshakeFailure>(
      "result",
      {"not_tls", "no_shared_version", "no_shared_cipher", "no_shared_group", "no_shared_signature", "alpn",
       "decode", "bad_record", "no_certificate", "unknown_ca", "expired_certificate", "wrong_name",
       "bad_certificate", "alert_from_peer", "internal", "peer_lost", "timeout", "rate_limited"});
  const auto version = closed_set<TlsVersion>("version", {"TLSv1.2", "TLSv1.3"});
  const auto cipher = closed_set<TlsCipher>("cipher", {"aes_128_gcm", "aes_256_gcm", "chacha20_poly1305"});
  const auto resumed = closed_set<Flag>("resumed", {"false", "true"});
  const auto ktls = closed_set<Flag>("ktls", {"false", "true"});
  const auto fallback = closed_set<KtlsFallback>("reason", {"unavailable", "slow", "suite", "refused"});
  const auto key_update = closed_set<KeyUpdate>("result", {"rekeyed", "closed"});
  const auto bad_record = closed_set<BadRecord>(
      "reason", {"bad_record_mac", "record_overflow", "unexpected_message", "decode_error",
                 "illegal_parameter", "no_renegotiation", "alert_from_peer"});
  const Label rule{"rule", {}, &Sources::rule_names};
  const auto rule_result = closed_set<RuleResult>("result", {"allowed", "refused", "tempfailed", "marked"});
  const auto authentication =
      closed_set<AuthResult>("result", {"accepted", "refused", "tempfailed", "failed"});
  using enum Type;

  // clang-format off
  return {
      {counter, "connections_accepted", "Client connections accepted.",
       {{{listener}, [](const R& r, const I& i) -> Value { return r.listeners[i[0]].accepted; }}}},
      {gauge, "connections_current", "Client connections open now.",
       {{{listener}, [](const R& r, const I& i) -> Value { return r.listeners[i[0]].current; }}}},
      {counter, "connections_rejected", "Client connections turned away before their greeting, by reason.",
       {{{listener, rejected}, [](const R& r, const I& i) -> Value { return r.listeners[i[0]].rejected[Reject(i[1])]; }}}},
      {counter, "connections_closed", "Client connections closed, by reason and by the stage they were in.",
       {{{listener, closed, closed_in}, [](const R& r, const I& i) -> Value { return r.listeners[i[0]].closed[i[1]][ClosedIn(i[2])]; }}}},
      {counter, "commands", "Commands received from clients.",
       {{{verb}, [](const R& r, const I& i) -> Value { return r.commands[i[0]]; }}}},
      {counter, "replies", "Replies sent to clients, by who gave them.",
       {{{constant("origin", "ringmx"), reply_class}, [](const R& r, const I& i) -> Value { return r.own_replies[i[1]]; }},
        {{constant("origin", "upstream"), reply_class}, [](const R& r, const I& i) -> Value { return r.upstream_replies[i[1]]; }}}},
      {counter, "messages", "Messages, by what became of them.",
       {{{message}, [](const R& r, const I& i) -> Value { return r.messages[MessageResult(i[0])]; }}}},
      {counter, "recipients_accepted", "Recipients that an upstream accepted.",
       {{{}, [](const R& r, const I&) -> Value { return r.recipients_accepted; }}}},
      {counter, "protocol_violations", "Violations of SMTP by clients, by what was done about them.",
       {{{violation, constant("action", "rejected")}, [](const R& r, const I& i) -> Value { return r.violations[Violation(i[0])]; }},
        {{violation, constant("action", "normalized")}, [](const R& r, const I& i) -> Value { return r.mended[Violation(i[0])]; }}}},
      {counter, "bytes_received", "Bytes received, by the side they came from.",
       {{{side}, [](const R& r, const I& i) -> Value { return r.bytes_received[Side(i[0])]; }}}},
      {counter, "bytes_sent", "Bytes sent, by the side they went to.",
       {{{side}, [](const R& r, const I& i) -> Value { return r.bytes_sent[Side(i[0])]; }}}},
      {gauge, "upstream_connections_current", "Upstream connections open now.",
       {{{upstream, constant("state", "idle")}, [](const R& r, const I& i) -> Value { return r.upstreams[i[0]].idle; }},
        {{upstream, constant("state", "leased")}, [](const R& r, const I& i) -> Value { return r.upstreams[i[0]].leased; }},
        {{upstream, constant("state", "connecting")}, [](const R& r, const I& i) -> Value { return r.upstreams[i[0]].connecting; }}}},
      {counter, "upstream_connections", "Attempts to connect to an upstream.",
       {{{upstream, connect}, [](const R& r, const I& i) -> Value { return r.upstreams[i[0]].connects[ConnectResult(i[1])]; }}}},
      {counter, "upstream_reused", "Transactions that an idle upstream connection was taken for.",
       {{{upstream}, [](const R& r, const I& i) -> Value { return r.upstreams[i[0]].reused; }}}},
      {counter, "upstream_lost", "Upstream connections that ended before ringmx ended them.",
       {{{upstream, loss}, [](const R& r, const I& i) -> Value { return r.upstreams[i[0]].lost[UpstreamLoss(i[1])]; }}}},
      {counter, "upstream_replies", "Replies of upstreams, by what they answered.",
       {{{upstream, stage, reply_class}, [](const R& r, const I& i) -> Value { return r.upstreams[i[0]].replies[i[1]][i[2]]; }}}},
      {counter, "authentications", "Exchanges of AUTH that clients began, by what became of them.",
       {{{listener, authentication}, [](const R& r, const I& i) -> Value { return r.listeners[i[0]].authentications[AuthResult(i[1])]; }}}},
      {counter, "policy_rules", "Commands that a rule of the policy decided or marked, by what it said.",
       {{{rule, rule_result}, [](const R& r, const I& i) -> Value { return r.rules[i[0]][RuleResult(i[1])]; }}}},
      {counter, "service_answers", "Answers of services, by what they said.",
       {{{service, service_answer}, [](const R& r, const I& i) -> Value { return r.services[i[0]].answers[ServiceAnswer(i[1])]; }}}},
      {counter, "service_failures", "Questions to services that got no valid answer, by reason.",
       {{{service, service_failure}, [](const R& r, const I& i) -> Value { return r.services[i[0]].failures[ServiceFailure(i[1])]; }}}},
      {counter, "service_cached_answers", "Questions that were not put to the service because the answer was known.",
       {{{service}, [](const R& r, const I& i) -> Value { return r.services[i[0]].cached; }}}},
      {gauge, "service_waiting_questions", "Questions that wait now because max_connections are busy.",
       {{{service}, [](const R& r, const I& i) -> Value { return r.services[i[0]].waiting; }}}},
      {gauge, "service_connections_current", "Connections to services open now.",
       {{{service, constant("state", "idle")}, [](const R& r, const I& i) -> Value { return r.services[i[0]].idle; }},
        {{service, constant("state", "busy")}, [](const R& r, const I& i) -> Value { return r.services[i[0]].busy; }}}},
      {counter, "service_connections", "Attempts to connect to a service.",
       {{{service, service_connect}, [](const R& r, const I& i) -> Value { return r.services[i[0]].connects[ServiceConnect(i[1])]; }}}},
      {counter, "service_bytes_received", "Bytes received from services.",
       {{{service}, [](const R& r, const I& i) -> Value { return r.services[i[0]].bytes_received; }}}},
      {counter, "service_bytes_sent", "Bytes sent to services.",
       {{{service}, [](const R& r, const I& i) -> Value { return r.services[i[0]].bytes_sent; }}}},
      {counter, "tls_handshakes", "TLS handshakes with clients, by what became of them.",
       {{{listener, constant("result", "ok"), version, resumed}, [](const R& r, const I& i) -> Value { return r.listeners[i[0]].handshakes[TlsVersion(i[2])][Flag(i[3])]; }},
        {{listener, failure}, [](const R& r, const I& i) -> Value { return r.listeners[i[0]].handshake_failures[HandshakeFailure(i[1])]; }}}},
      {counter, "upstream_tls_handshakes", "TLS handshakes with upstreams, by what became of them.",
       {{{upstream, constant("result", "ok"), resumed}, [](const R& r, const I& i) -> Value { return r.upstreams[i[0]].handshakes[Flag(i[2])]; }},
        {{upstream, failure}, [](const R& r, const I& i) -> Value { return r.upstreams[i[0]].handshake_failures[HandshakeFailure(i[1])]; }}}},
      {counter, "tls_connections", "Connections with TLS, by who does their records: the kernel (ktls) or ringmx.",
       {{{side, version, cipher, ktls}, [](const R& r, const I& i) -> Value { return r.tls_connections[Side(i[0])][TlsVersion(i[1])][TlsCipher(i[2])][Flag(i[3])]; }}}},
      {counter, "ktls_fallback", "Connections whose records ringmx does because the kernel can't, by reason.",
       {{{fallback}, [](const R& r, const I& i) -> Value { return r.ktls_fallbacks[KtlsFallback(i[0])]; }}}},
      {counter, "tls_key_updates", "Key updates of TLS 1.3 by the other side, by what was done about them.",
       {{{key_update}, [](const R& r, const I& i) -> Value { return r.key_updates[KeyUpdate(i[0])]; }}}},
      {counter, "tls_bad_records", "Connections with TLS that ended, after their handshake, with a record that made no sense or said that something had failed, by reason.",
       {{{side, bad_record}, [](const R& r, const I& i) -> Value { return r.bad_records[Side(i[0])][BadRecord(i[1])]; }}}},
      {counter, "uring_submissions", "Operations submitted to the ring.",
       {{{}, [](const R& r, const I&) -> Value { return r.uring.submissions; }, Over::each}}},
      {counter, "uring_enters", "Calls of io_uring_enter.",
       {{{}, [](const R& r, const I&) -> Value { return r.uring.enters; }, Over::each}}},
      {counter, "uring_cq_overflows", "Times that the completion queue overflowed.",
       {{{}, [](const R& r, const I&) -> Value { return r.uring.cq_overflows; }, Over::each}}},
      {counter, "uring_buffer_starvations", "Receives that found no buffer free.",
       {{{}, [](const R& r, const I&) -> Value { return r.uring.buffer_starvations; }, Over::each}}},
      {gauge, "draining", "1 while ringmx takes no new connections because it is to end.",
       {{{}, [](const R& r, const I&) -> Value { return r.draining; }, Over::max}}},
  };
  // clang-format on
}

using LabelPair = std::pair<std::string_view, std::string_view>;

class Page {
 public:
  explicit Page(Format format) : open_(format == Format::openmetrics) {}

  // What the two formats disagree about: the name of a counter's family, the type of an info, and
  // units. `unit` must be the end of the name.
  void family(Type type, std::string_view name, std::string_view help, std::string_view unit = {}) {
    sample_name_ = std::string(name) + (type == Type::counter ? "_total" : type == Type::info ? "_info" : "");
    const std::string family_name = open_ ? std::string(name) : sample_name_;
    const std::string_view type_name = type == Type::counter         ? "counter"
                                       : type == Type::histogram     ? "histogram"
                                       : type == Type::info && open_ ? "info"
                                                                     : "gauge";
    append({"# HELP ", family_name, " ", help, "\n# TYPE ", family_name, " ", type_name, "\n"});
    if (open_ && !unit.empty()) append({"# UNIT ", family_name, " ", unit, "\n"});
  }

  void sample(const std::vector<LabelPair>& labels, std::string_view value, std::string_view suffix = {}) {
    append({sample_name_, suffix});
    char separator = '{';
    for (const auto& [name, label_value] : labels) {
      text_ += std::exchange(separator, ',');
      append({name, "=\""});
      escape(label_value);
      text_ += '"';
    }
    append({labels.empty() ? "" : "}", " ", value, "\n"});
  }
  void sample(const std::vector<LabelPair>& labels, std::int64_t value) {
    sample(labels, std::to_string(value));
  }

  [[nodiscard]] std::string finish() && {
    if (open_) text_ += "# EOF\n";
    return std::move(text_);
  }

 private:
  void append(std::initializer_list<std::string_view> pieces) {
    for (const std::string_view piece : pieces) text_ += piece;
  }
  void escape(std::string_view value) {
    for (const char c : value) {
      if (c == '\\' || c == '"') text_ += '\\';
      if (c == '\n')
        text_ += "\\n";
      else
        text_ += c;
    }
  }

  bool open_;
  std::string sample_name_;
  std::string text_;
};

// The samples of a part: every combination of the values of its labels, the last label fastest.
void add_part(Page& page, const Part& part, const Sources& sources) {
  std::size_t combinations = 1;
  for (const Label& label : part.labels) combinations *= label.in(sources).size();
  for (std::size_t n = 0; n < combinations; ++n) {
    Index index{};
    for (std::size_t i = part.labels.size(), rest = n; i-- > 0;) {
      const std::size_t values = part.labels[i].in(sources).size();
      index[i] = rest % values;
      rest /= values;
    }
    std::vector<LabelPair> labels;
    for (std::size_t i = 0; i < part.labels.size(); ++i)
      labels.emplace_back(part.labels[i].name, part.labels[i].in(sources)[index[i]]);

    std::int64_t all = 0;
    for (std::size_t r = 0; r < sources.reactors.size(); ++r) {
      const std::int64_t value = part.value(*sources.reactors[r], index).number;
      if (part.over == Over::each) {
        const std::string number = std::to_string(r);
        labels.emplace_back("reactor", number);
        page.sample(labels, value);
        labels.pop_back();
      }
      all = part.over == Over::max ? std::max(all, value) : all + value;
    }
    if (part.over != Over::each) page.sample(labels, all);
  }
}

// Microseconds as seconds, in the one form that OpenMetrics has for `le`: "0.0025", "1.0".
std::string seconds(std::uint64_t microseconds) {
  std::string fraction = std::to_string(1'000'000 + microseconds % 1'000'000).substr(1);
  fraction.resize(std::max<std::size_t>(fraction.find_last_not_of('0') + 1, 1));
  return std::to_string(microseconds / 1'000'000) + "." + fraction;
}

// Of all reactors together. Buckets are cumulative on the page. `of` finds a reactor's.
template <class Of>
void add_histogram(Page& page, const Sources& sources, std::vector<LabelPair> labels, Of of) {
  std::uint64_t count = 0;
  std::uint64_t sum = 0;
  for (std::size_t bucket = 0; bucket < Histogram::buckets; ++bucket) {
    for (const ReactorCounters* reactor : sources.reactors) count += of(*reactor).count(bucket);
    const std::string bound = bucket < Histogram::bounds.size()
                                  ? seconds(static_cast<std::uint64_t>(Histogram::bounds[bucket]))
                                  : "+Inf";
    labels.emplace_back("le", bound);
    page.sample(labels, std::to_string(count), "_bucket");
    labels.pop_back();
  }
  for (const ReactorCounters* reactor : sources.reactors) sum += of(*reactor).sum();
  page.sample(labels, seconds(sum), "_sum");
  page.sample(labels, std::to_string(count), "_count");
}

void add_certificates(Page& page, const Sources& sources) {
  if (!sources.certificates) return;
  page.family(Type::gauge, "ringmx_tls_certificate_not_after_seconds",
              "When the certificates expire that clients are shown now, since unix epoch in seconds.",
              "seconds");
  for (const Certificate& c : sources.certificates())
    page.sample({{"listener", c.listener}, {"certificate", c.file}}, c.not_after);
}

std::string decimal(double value, int digits) {
  std::array<char, 64> text{};
  const auto end =
      std::to_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed, digits).ptr;
  return {text.data(), end};
}

void add_process(Page& page) {
  const Process process = read_process();
  const auto add = [&](Type type, std::string_view name, std::string_view help, std::string_view unit,
                       const std::optional<std::string>& value) {
    if (!value) return;
    page.family(type, name, help, unit);
    page.sample({}, *value);
  };
  const auto whole = [](std::optional<std::int64_t> n) {
    return n ? std::optional(std::to_string(*n)) : std::nullopt;
  };
  const auto real = [](std::optional<double> x, int digits) {
    return x ? std::optional(decimal(*x, digits)) : std::nullopt;
  };
  add(Type::counter, "process_cpu_seconds", "Total user and system CPU time spent in seconds.", "seconds",
      real(process.cpu_seconds, 6));
  add(Type::gauge, "process_open_fds", "Number of open file descriptors.", "", whole(process.open_fds));
  add(Type::gauge, "process_max_fds", "Maximum number of open file descriptors.", "", whole(process.max_fds));
  add(Type::gauge, "process_resident_memory_bytes", "Resident memory size in bytes.", "bytes",
      whole(process.resident_bytes));
  add(Type::gauge, "process_virtual_memory_bytes", "Virtual memory size in bytes.", "bytes",
      whole(process.virtual_bytes));
  add(Type::gauge, "process_start_time_seconds", "Start time of the process since unix epoch in seconds.",
      "seconds", real(process.start_time_seconds, 2));
}

constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

// Takes what stands before the next `separator` off the front of `rest`, without the space around.
std::string_view take(std::string_view& rest, char separator) {
  const std::size_t end = rest.find(separator);
  std::string_view piece = rest.substr(0, end);
  rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
  const std::size_t first = piece.find_first_not_of(" \t");
  if (first == piece.npos) return {};
  return piece.substr(first, piece.find_last_not_of(" \t") - first + 1);
}

// A qvalue (RFC 9110 12.4.2) in thousandths; what is none is 0, so that nobody gets what he may not
// have asked for.
int quality(std::string_view text) noexcept {
  if (text.empty() || (text[0] != '0' && text[0] != '1') || text.size() > 5) return 0;
  int value = (text[0] - '0') * 1000;
  if (text.size() > 1 && text[1] != '.') return 0;
  for (std::size_t i = 2, unit = 100; i < text.size(); ++i, unit /= 10) {
    if (text[i] < '0' || text[i] > '9') return 0;
    value += (text[i] - '0') * static_cast<int>(unit);
  }
  return std::min(value, 1000);
}

}  // namespace

Format negotiate(std::string_view accept) noexcept {
  // OpenMetrics goes only to those who name it, and who do not like plain text better. The most
  // specific range that covers plain text says how well it is liked (RFC 9110 12.5.1).
  constexpr std::array<std::string_view, 3> text_ranges{"*/*", "text/*", "text/plain"};
  int open_quality = 0;
  std::array<int, text_ranges.size()> text_quality{};
  while (!accept.empty()) {
    std::string_view range = take(accept, ',');
    const std::string_view media_type = take(range, ';');
    int q = 1000;
    bool other_version = false;
    while (!range.empty()) {
      std::string_view value = take(range, ';');
      const std::string_view name = take(value, '=');
      if (same_word(name, "q")) q = quality(take(value, ';'));
      if (same_word(name, "version")) other_version = take(value, ';') != "1.0.0";
    }
    if (same_word(media_type, "application/openmetrics-text") && !other_version)
      open_quality = std::max(open_quality, q);
    for (std::size_t i = 0; i < text_ranges.size(); ++i)
      if (same_word(media_type, text_ranges[i])) text_quality[i] = std::max(text_quality[i], q);
  }
  const auto specific = std::find_if(text_quality.rbegin(), text_quality.rend(), [](int q) { return q > 0; });
  const int plain = specific == text_quality.rend() ? 0 : *specific;
  return open_quality > 0 && open_quality >= plain ? Format::openmetrics : Format::prometheus_text;
}

std::string_view content_type(Format f) noexcept {
  return f == Format::openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                  : "text/plain; version=0.0.4; charset=utf-8";
}

std::string expose(const Sources& sources, Format format) {
  assert(sources.verb_names.size() <= verb_slots && sources.stage_names.size() <= stage_slots);
  static const std::vector<Family> table = families();
  Page page(format);
  page.family(Type::info, "ringmx_build", "What is running here.");
  page.sample({{"version", sources.version}}, 1);
  for (const Family& family : table) {
    page.family(family.type, "ringmx_" + std::string(family.name), family.help);
    for (const Part& part : family.parts) add_part(page, part, sources);
  }
  page.family(Type::histogram, "ringmx_tls_handshake_duration_seconds",
              "How long successful TLS handshakes with clients took.", "seconds");
  add_histogram(page, sources, {},
                [](const ReactorCounters& r) -> const Histogram& { return r.handshake_duration; });
  page.family(Type::histogram, "ringmx_service_answer_duration_seconds",
              "How long services took to answer, with connecting and waiting for a connection.", "seconds");
  for (std::size_t i = 0; i < sources.service_names.size(); ++i) {
    add_histogram(page, sources, {{"service", sources.service_names[i]}},
                  [i](const ReactorCounters& r) -> const Histogram& { return r.services[i].duration; });
  }
  add_certificates(page, sources);
  add_process(page);
  return std::move(page).finish();
}

}  // namespace ringmx::metrics
