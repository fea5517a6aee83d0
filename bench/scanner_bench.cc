// SPDX-License-Identifier: GPL-3.0-or-later

// What looking at every byte of a message costs, next to what it would cost to look for less: only
// for line ends (memchr), only for the end of data (memmem). All inputs fit the L2 cache.

#include <benchmark/benchmark.h>
#include <string.h>

#include <algorithm>
#include <string>
#include <string_view>

#include "ringmx/smtp/body.h"
#include "ringmx/smtp/line.h"
#include "ringmx/smtp/scanner.h"

namespace ringmx::smtp {
namespace {

constexpr std::size_t input_size = 64 * 1024;

std::string repeated(std::string_view pattern) {
  std::string s;
  while (s.size() + pattern.size() <= input_size) s += pattern;
  return s;
}

struct Input {
  const char* name;
  std::string bytes;
};

void bytes_per_second(benchmark::State& state, std::size_t per_iteration) {
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(per_iteration));
}

// The two baselines.
void memchr_lf(benchmark::State& state, const std::string& input) {
  for (auto _ : state) {
    std::size_t lines = 0;
    const char* p = input.data();
    const char* const end = p + input.size();
    while (const void* lf = memchr(p, '\n', static_cast<std::size_t>(end - p))) {
      ++lines;
      p = static_cast<const char*>(lf) + 1;
    }
    benchmark::DoNotOptimize(lines);
  }
  bytes_per_second(state, input.size());
}

void memmem_end_of_data(benchmark::State& state, const std::string& input) {
  for (auto _ : state) benchmark::DoNotOptimize(memmem(input.data(), input.size(), "\r\n.\r\n", 5));
  bytes_per_second(state, input.size());
}

void find_mark_with(benchmark::State& state, const ScanKernel& kernel, const std::string& input) {
  for (auto _ : state) {
    std::string_view rest = input;
    char before = 'x';
    std::size_t marks = 0;
    while (!rest.empty()) {
      const std::size_t mark = kernel.find_mark(rest, before);
      if (mark == rest.size()) break;
      ++marks;
      before = rest[mark];
      rest.remove_prefix(mark + 1);
    }
    benchmark::DoNotOptimize(marks);
  }
  bytes_per_second(state, input.size());
}

struct CountingSink {
  std::size_t pieces = 0;
  void slice(std::string_view piece) { add(piece); }
  void text(std::string_view constant) { add(constant); }
  void add(std::string_view piece) {
    benchmark::DoNotOptimize(piece.data());
    ++pieces;
  }
};

void body_filter(benchmark::State& state, Framing from, Framing to, const std::string& input) {
  CountingSink sink;
  for (auto _ : state) {
    BodyFilter filter(from, to);
    if (filter.feed(input, sink) != input.size()) state.SkipWithError("the message ended early");
  }
  bytes_per_second(state, input.size());
  state.counters["pieces"] =
      static_cast<double>(sink.pieces) / static_cast<double>(std::max<std::int64_t>(state.iterations(), 1));
}

// Command lines, in place.
void line_reader(benchmark::State& state, const std::string& input) {
  LineReader reader(512, false);
  for (auto _ : state) {
    std::string_view rest = input;
    Line line;
    std::size_t consumed = 0;
    while (!rest.empty() && reader.peek(rest, line, consumed)) {
      benchmark::DoNotOptimize(line.text.data());
      reader.consume();
      rest.remove_prefix(consumed);
    }
  }
  bytes_per_second(state, input.size());
}

template <class Function, class... Args>
void add(const std::string& name, Function&& function, const Args&... args) {
  benchmark::RegisterBenchmark(name.c_str(), [=](benchmark::State& state) { function(state, args...); });
}

void register_all() {
  const Input inputs[] = {
      {"mail of 76 columns", repeated(std::string(76, 'x') + "\r\n")},
      {"clean lines of 998", repeated(std::string(996, 'x') + "\r\n")},
      {"one line", repeated("x")},
      {"stuffed dots", repeated("..\r\n")},
      {"dot on each line of 76", repeated(".." + std::string(74, 'x') + "\r\n")},
      {"NULs", std::string(input_size, '\0')},
      {"bare CRs", repeated("\r")},
      {"bare LFs", repeated("\n")},
      {"LF dot LF dot", repeated("\n.")},
      {"NUL every 16", repeated(std::string(15, 'x') + '\0')},
      {"NUL every 40", repeated(std::string(39, 'x') + '\0')},
  };
  for (const Input& input : inputs) {
    const std::string in = std::string(" / ") + input.name;
    add("memchr for LF" + in, memchr_lf, input.bytes);
    add("memmem for end of data" + in, memmem_end_of_data, input.bytes);
    for (const ScanKernel& kernel : scan_kernels()) {
      if (kernel.supported()) {
        add("find_mark, " + std::string(kernel.name) + in, find_mark_with, kernel, input.bytes);
      }
    }
    add("BodyFilter, dot to dot" + in, body_filter, Framing::dot, Framing::dot, input.bytes);
    add("BodyFilter, octets to dot" + in, body_filter, Framing::octets, Framing::dot, input.bytes);
  }
  add("LineReader / commands of 30", line_reader, repeated("RCPT TO:<someone@example.com>\r\n"));
  add("LineReader / NOOP", line_reader, repeated("NOOP\r\n"));
}

}  // namespace
}  // namespace ringmx::smtp

int main(int argc, char** argv) {
  ringmx::smtp::register_all();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
}
