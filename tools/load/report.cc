// SPDX-License-Identifier: GPL-3.0-or-later
#include "load/report.h"

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>

namespace ringmx::load {

namespace {

constexpr std::array percentiles{50.0, 90.0, 99.0, 99.9};
constexpr std::array<std::string_view, 4> percentile_names{"p50", "p90", "p99", "p99.9"};

[[gnu::format(printf, 2, 3)]] void print(std::string& out, const char* format, ...) {
  std::array<char, 512> line{};
  va_list arguments;
  va_start(arguments, format);
  // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start() is unknown to clang-tidy 14
  const int n = std::vsnprintf(line.data(), line.size(), format, arguments);
  va_end(arguments);
  out.append(line.data(), std::min(static_cast<std::size_t>(std::max(n, 0)), line.size() - 1));
}

double per_second(double amount, Nanoseconds time) {
  return time <= 0 ? 0 : amount * second / static_cast<double>(time);
}

double megabytes(std::uint64_t octets) {
  return static_cast<double>(octets) / 1e6;
}

// The end of such a session is no event of its own: its messages are counted, or it is a refusal.
std::uint64_t sum(const Results& results, Failure failure) {
  std::uint64_t total = 0;
  for (const std::uint64_t n : results.failures[static_cast<std::size_t>(failure)]) total += n;
  return total;
}

std::string manner(const Options& o) {
  std::string text = o.idle ? "idle" : o.rate > 0 ? "open loop" : "closed loop";
  if (o.rate > 0) print(text, ", %.6g messages/s", o.rate);
  text += ", " + std::to_string(o.sessions) + (o.sessions == 1 ? " session" : " sessions");
  if (o.per_session == 0) text += ", kept";
  if (o.per_session > 1) text += ", " + std::to_string(o.per_session) + " messages each";
  if (o.manners.starttls) text += ", STARTTLS";
  if (o.tls.implicit) text += ", TLS";
  if (o.manners.bdat) text += ", BDAT";
  if (o.manners.chunk_size > 0) text += " of " + format_size(o.manners.chunk_size);
  if (o.slow > 0) print(text, ", %.6g%% slow with %s/s", o.slow_share, format_size(o.slow).c_str());
  return text;
}

// JSON with one level of indentation less than its nesting, since objects of numbers stay on a line.
class Json {
 public:
  Json& key(std::string_view name) {
    comma();
    string(name);
    out_ += ": ";
    first_ = true;
    return *this;
  }
  void value(std::string_view text) { comma(), string(text); }
  void value(const char* text) { value(std::string_view(text)); }
  void value(std::uint64_t number) { comma(), out_ += std::to_string(number); }
  void value(double number) { comma(), print(out_, "%.9g", number); }
  void value(bool truth) { comma(), out_ += truth ? "true" : "false"; }
  template <class Body>
  void object(Body&& body) {
    nested('{', '}', body);
  }
  template <class Body>
  void array(Body&& body) {
    nested('[', ']', body);
  }
  [[nodiscard]] std::string take() { return std::move(out_) + "\n"; }

 private:
  void comma() {
    if (!first_) out_ += ",";
    if (!first_ || out_.ends_with('{') || out_.ends_with('[')) {
      if (depth_ <= 2) {
        out_ += "\n" + std::string(depth_, ' ');
      } else if (!first_) {
        out_ += ' ';
      }
    }
    first_ = false;
  }
  template <class Body>
  void nested(char open, char close, Body&& body) {
    comma();
    out_ += open;
    ++depth_;
    first_ = true;
    body();
    --depth_;
    first_ = false;
    out_ += close;
  }
  void string(std::string_view text) {
    out_ += '"';
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == '"' || c == '\\') {
        out_ += '\\';
        out_ += c;
      } else if (byte < 0x20 || byte >= 0x7f) {
        print(out_, "\\u%04x", byte);
      } else {
        out_ += c;
      }
    }
    out_ += '"';
  }
  std::string out_;
  std::size_t depth_ = 0;
  bool first_ = true;
};

}  // namespace

std::string milliseconds(std::uint64_t nanoseconds) {
  const double ms = static_cast<double>(nanoseconds) / 1e6;
  std::string text;
  print(text, ms < 10 ? "%.3f" : ms < 100 ? "%.2f" : ms < 1000 ? "%.1f" : "%.0f", ms);
  return text;
}

std::string on_one_line(std::string_view text) {
  constexpr std::size_t longest = 200;
  while (text.ends_with('\n') || text.ends_with('\r')) text.remove_suffix(1);
  std::string out;
  for (const char c : text.substr(0, longest)) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n') {
      out += " / ";
    } else if (c != '\r') {
      out += byte < 0x20 || byte >= 0x7f ? '?' : c;
    }
  }
  if (text.size() > longest) out += "...";
  return out;
}

void Results::add(const Statistics& statistics) noexcept {
  statistics.add_to(totals);
  for (std::size_t i = 0; i < span_count; ++i) spans[i].add(statistics.spans[i]);
  for (std::size_t s = 0; s < smtp::stage_count; ++s) {
    for (std::size_t c = 0; c < code_count; ++c) replies[s][c] += statistics.replies[s][c].value();
  }
  for (std::size_t f = 0; f < failure_count; ++f) {
    for (std::size_t p = 0; p < place_count; ++p) failures[f][p] += statistics.failures[f][p].value();
  }
  for (const auto& [kind, sessions] : statistics.tls) tls[kind] += sessions;
  elapsed = std::max(elapsed, static_cast<Nanoseconds>(statistics.last_end.value()));
}

bool satisfied(const Options& options, const Results& results) noexcept {
  const Totals& t = results.totals;
  if (options.idle) return t.sessions_failed == 0 && t.sessions_opened > 0;
  std::uint64_t wanted = t.messages() + t.missed;
  if (options.count > 0 && options.duration == 0) wanted = std::max(wanted, options.count);
  if (wanted == 0 || t.accepted == 0) return options.tolerate >= 100;
  const auto bad = static_cast<double>(wanted - t.accepted);
  if (bad > static_cast<double>(wanted) * options.tolerate / 100) return false;
  return t.recipients_refused == 0 || options.tolerate > 0;
}

std::string text_report(const Options& options, std::string_view target, const Results& results) {
  const Totals& t = results.totals;
  std::string out;
  print(out, "%s: %s\n\n", std::string(target).c_str(), manner(options).c_str());
  if (!options.idle) {
    print(out, "messages    %12" PRIu64 " accepted  %10.1f /s  %8.2f MB/s in %.2f s\n", t.accepted,
          per_second(static_cast<double>(t.accepted), results.elapsed),
          per_second(megabytes(t.octets), results.elapsed), static_cast<double>(results.elapsed) / second);
    const auto line = [&](std::uint64_t n, const char* what) {
      if (n > 0) print(out, "            %12" PRIu64 " %s\n", n, what);
    };
    line(t.refused, "refused");
    line(t.failed, "failed with their session");
    line(t.unfinished, "cut off at the end of the run");
    line(t.missed, "due, and never begun: all sessions were busy (--sessions)");
    print(out, "recipients  %12" PRIu64 " accepted, %" PRIu64 " refused\n", t.recipients_accepted,
          t.recipients_refused);
  }
  print(out, "sessions    %12" PRIu64 " opened, %" PRIu64 " failed%s\n", t.sessions_opened, t.sessions_failed,
        results.interrupted ? "; the run was interrupted" : "");

  for (const auto& [kind, n] : results.tls) {
    print(out, "%-12s%12" PRIu64 " %s: %s %s %s\n", kind == results.tls.begin()->first ? "TLS" : "", n,
          kind.resumed ? "resumed" : "full", std::string(kind.version).c_str(),
          std::string(kind.suite).c_str(), std::string(kind.group).c_str());
  }

  out += "\nreplies\n";
  for (std::size_t s = 0; s < smtp::stage_count; ++s) {
    std::string codes;
    for (std::size_t c = 0; c < code_count; ++c) {
      if (results.replies[s][c] == 0) continue;
      print(codes, "  %3zu: %" PRIu64 "", c + first_code, results.replies[s][c]);
    }
    if (codes.empty()) continue;
    print(out, "  %-12s%s\n", std::string(smtp::stage_name(static_cast<smtp::Stage>(s))).c_str(),
          codes.c_str());
  }

  out += "\nlatency, ms        p50       p90       p99     p99.9       max      count\n";
  for (std::size_t i = 0; i < span_count; ++i) {
    const Distribution& d = results.spans[i];
    if (d.count() == 0) continue;
    print(out, "  %-12s", std::string(span_name(static_cast<Span>(i))).c_str());
    for (const double p : percentiles) print(out, "%10s", milliseconds(d.percentile(p)).c_str());
    print(out, "%10s %10" PRIu64 "\n", milliseconds(d.max()).c_str(), d.count());
  }

  bool failures = false;
  for (std::size_t f = 0; f < failure_count; ++f)
    failures = failures || sum(results, static_cast<Failure>(f)) > 0;
  if (failures) {
    out += "\nfailed sessions\n";
    for (std::size_t f = 0; f < failure_count; ++f) {
      for (std::size_t p = 0; p < place_count; ++p) {
        if (results.failures[f][p] == 0) continue;
        print(out, "%12" PRIu64 "  %s %s\n", results.failures[f][p], std::string(place_name(p)).c_str(),
              std::string(failure_name(static_cast<Failure>(f))).c_str());
      }
    }
  }
  if (!results.samples.empty()) {
    out += "\nfirst errors of each kind\n";
    for (const Sample& sample : results.samples) out += "  " + sample.kind + ": " + sample.text + "\n";
  }
  return out;
}

std::string json_report(const Options& options, std::string_view target, const Results& results) {
  const Totals& t = results.totals;
  Json json;
  const auto seconds = [](Nanoseconds time) { return static_cast<double>(time) / second; };
  json.object([&] {
    json.key("target").value(target);
    json.key("satisfied").value(satisfied(options, results));
    json.key("interrupted").value(results.interrupted);
    json.key("options").object([&] {
      json.key("mode").value(options.idle ? "idle" : options.rate > 0 ? "open loop" : "closed loop");
      json.key("rate").value(options.rate);
      json.key("count").value(options.count);
      json.key("duration_s").value(seconds(options.duration));
      json.key("ramp_s").value(seconds(options.ramp));
      json.key("sessions").value(options.sessions);
      json.key("messages_per_session").value(options.per_session);
      json.key("recipients").value(std::uint64_t{options.mail.recipients});
      json.key("bdat").value(options.manners.bdat);
      json.key("chunk").value(options.manners.chunk_size);
      json.key("tls").value(options.manners.starttls ? "starttls"
                            : options.tls.implicit   ? "implicit"
                                                     : "none");
      json.key("resume").value(options.tls.resume);
      json.key("threads").value(std::uint64_t{options.threads});
      json.key("slow_bytes_per_s").value(options.slow);
      json.key("slow_share_percent").value(options.slow == 0 ? 0 : options.slow_share);
      json.key("seed").value(options.mail.seed);
    });
    json.key("elapsed_s").value(seconds(results.elapsed));
    json.key("messages").object([&] {
      json.key("accepted").value(t.accepted);
      json.key("refused").value(t.refused);
      json.key("failed").value(t.failed);
      json.key("unfinished").value(t.unfinished);
      json.key("missed").value(t.missed);
      json.key("accepted_per_s").value(per_second(static_cast<double>(t.accepted), results.elapsed));
    });
    json.key("octets").object([&] {
      json.key("accepted").value(t.octets);
      json.key("accepted_per_s").value(per_second(static_cast<double>(t.octets), results.elapsed));
      json.key("wire_sent").value(t.bytes_sent);
      json.key("wire_received").value(t.bytes_received);
    });
    json.key("recipients").object([&] {
      json.key("accepted").value(t.recipients_accepted);
      json.key("refused").value(t.recipients_refused);
    });
    json.key("sessions").object([&] {
      json.key("opened").value(t.sessions_opened);
      json.key("closed").value(t.sessions_closed);
      json.key("failed").value(t.sessions_failed);
    });
    json.key("tls").array([&] {
      for (const auto& one : results.tls) {
        const TlsKind& kind = one.first;
        json.object([&] {
          json.key("version").value(kind.version);
          json.key("suite").value(kind.suite);
          json.key("group").value(kind.group);
          json.key("resumed").value(kind.resumed);
          json.key("sessions").value(one.second);
        });
      }
    });
    json.key("replies").object([&] {
      for (std::size_t s = 0; s < smtp::stage_count; ++s) {
        const auto& codes = results.replies[s];
        if (std::all_of(codes.begin(), codes.end(), [](std::uint64_t n) { return n == 0; })) continue;
        json.key(smtp::stage_name(static_cast<smtp::Stage>(s))).object([&] {
          for (std::size_t c = 0; c < code_count; ++c) {
            if (codes[c] > 0) json.key(std::to_string(c + first_code)).value(codes[c]);
          }
        });
      }
    });
    json.key("latency_ms").object([&] {
      const auto ms = [](std::uint64_t ns) { return static_cast<double>(ns) / 1e6; };
      for (std::size_t i = 0; i < span_count; ++i) {
        const Distribution& d = results.spans[i];
        if (d.count() == 0) continue;
        json.key(span_name(static_cast<Span>(i))).object([&] {
          json.key("count").value(d.count());
          json.key("mean").value(d.mean() / 1e6);
          for (std::size_t p = 0; p < percentiles.size(); ++p) {
            json.key(percentile_names[p]).value(ms(d.percentile(percentiles[p])));
          }
          json.key("max").value(ms(d.max()));
        });
      }
    });
    json.key("failures").array([&] {
      for (std::size_t f = 0; f < failure_count; ++f) {
        for (std::size_t p = 0; p < place_count; ++p) {
          if (results.failures[f][p] == 0) continue;
          json.object([&] {
            json.key("failure").value(failure_name(static_cast<Failure>(f)));
            json.key("at").value(place_name(p));
            json.key("sessions").value(results.failures[f][p]);
          });
        }
      }
    });
    json.key("first_errors").array([&] {
      for (const Sample& sample : results.samples) {
        json.object([&] {
          json.key("kind").value(sample.kind);
          json.key("text").value(sample.text);
        });
      }
    });
  });
  return json.take();
}

std::string_view Progress::head() noexcept {
  return "   time  messages/s     MB/s  sessions   refused    failed   p50 ms   p99 ms\n";
}

std::string Progress::line(Nanoseconds time, const Totals& totals, const Distribution& messages) {
  const Nanoseconds interval = time - time_;
  Distribution recent = messages;
  recent.subtract(messages_);
  std::string out;
  print(out, "%6.0fs %11.0f %8.1f %9" PRIu64 " %9" PRIu64 " %9" PRIu64 " %8s %8s\n",
        static_cast<double>(time) / second,
        per_second(static_cast<double>(totals.accepted - totals_.accepted), interval),
        per_second(megabytes(totals.octets - totals_.octets), interval),
        totals.sessions_opened - totals.sessions_closed - totals.sessions_failed,
        totals.refused - totals_.refused, totals.failed - totals_.failed,
        recent.count() == 0 ? "-" : milliseconds(recent.percentile(50)).c_str(),
        recent.count() == 0 ? "-" : milliseconds(recent.percentile(99)).c_str());
  time_ = time;
  totals_ = totals;
  messages_ = messages;
  return out;
}

}  // namespace ringmx::load
