// SPDX-License-Identifier: GPL-3.0-or-later
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "nginx/lexer.h"
#include "nginx/translation.h"

// Whatever stands in nginx.conf: the lexer ends, and takes no line from nowhere; and what comes out is either
// a reason why not, or a configuration that is TOML and of which every key is one of ringmx's.

using namespace ringmx;

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void require_one_line(std::string_view text) {
  require(!text.empty());
  for (const char c : text) require(static_cast<unsigned char>(c) >= ' ');
}

void lex(std::string_view text) {
  std::uint32_t lines = 1;
  for (const char c : text) lines += c == '\n' ? 1 : 0;
  nginx::Lexer lexer(text);
  std::uint32_t line = 1;
  std::size_t tokens = 0;
  for (;; ++tokens) {
    const nginx::Token token = lexer.next();
    require(token.line >= line && token.line <= lines && tokens <= text.size());
    line = token.line;
    if (token.kind == nginx::Token::Kind::end || token.kind == nginx::Token::Kind::fault) break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(data, data + size);
  lex(text);

  nginx::Files files;
  files.read = [&](const std::string& path, std::string& error) -> std::optional<std::string> {
    if (path == "/n/nginx.conf") return text;
    if (path == "/n/listen") return "listen 25;";
    error = "none";
    return std::nullopt;
  };
  files.match = [](const std::string&) { return std::vector<std::string>{"/n/listen", "/n/nginx.conf"}; };
  const nginx::Translation result = nginx::import_file("/n/nginx.conf", files);
  require(result.problem.has_value() == result.text.empty());
  if (result.problem) {
    require_one_line(result.problem->text());
    return 0;
  }

  config::Config config;
  std::vector<config::Problem> problems;
  (void)config::parse(result.text, "fuzz.toml", config, problems, true);
  for (const config::Problem& problem : problems) {
    require(!problem.key.empty());  // else it is no TOML
    require(problem.message != "unknown");
  }
  for (const nginx::Finding& finding : result.findings) require_one_line(finding.line());
  return 0;
}
