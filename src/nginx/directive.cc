// SPDX-License-Identifier: GPL-3.0-or-later
#include "nginx/directive.h"

#include <algorithm>
#include <cstddef>
#include <string_view>
#include <utility>

#include "config/notation.h"
#include "nginx/lexer.h"

namespace ringmx::nginx {
namespace {

// Far more than anybody writes; what goes beyond includes itself, or was never meant for nginx.
constexpr std::size_t deepest_block = 64;
constexpr std::size_t deepest_include = 32;
constexpr std::size_t most_files = 10'000;

constexpr std::string_view try_nginx = "see what `nginx -t` says, and mend it there";

std::string quoted(const std::string& name) {
  return "\"" + name + "\"";
}

class Parser {
 public:
  Parser(const std::string& file, const Files& files) : folder_(folder_of(file)), files_(files) {}

  std::optional<Problem> file(const std::string& path, const Place& from, std::vector<Directive>& out) {
    if (std::find(open_.begin(), open_.end(), path) != open_.end())
      return Problem{from, quoted(path) + " includes itself", "remove this include"};
    if (open_.size() == deepest_include || ++count_ > most_files) {
      return Problem{from, "there are too many includes, or they go round in circles",
                     "look at what " + quoted(path) + " includes"};
    }
    std::string error;
    const std::optional<std::string> text = files_.read(path, error);
    if (!text) {
      return Problem{
          from, quoted(path) + " can't be read: " + error,
          from.line == 0 ? "name a readable nginx.conf" : "mend the include, or the file's rights"};
    }
    open_.push_back(path);
    Lexer lexer(*text);
    std::optional<Problem> problem = block(lexer, path, 0, out);
    open_.pop_back();
    return problem;
  }

 private:
  // Directives up to the end of a block, or of the file where depth is 0.
  std::optional<Problem> block(Lexer& lexer, const std::string& path, std::size_t depth,
                               std::vector<Directive>& out) {
    Directive directive;
    bool begun = false;
    for (;;) {
      Token token = lexer.next();
      const Place here{path, token.line};
      const auto wrong = [&](std::string message) {
        return Problem{here, std::move(message), std::string(try_nginx)};
      };
      switch (token.kind) {
        case Token::Kind::fault:
          return wrong(std::move(token.text));
        case Token::Kind::end:
          if (begun) return wrong(R"(the file ends where ";" or "{" is expected)");
          if (depth > 0) return wrong(R"(the file ends where "}" is expected)");
          return std::nullopt;
        case Token::Kind::close:
          if (begun || depth == 0) return wrong(R"(unexpected "}")");
          return std::nullopt;
        case Token::Kind::word:
          if (begun) {
            directive.arguments.push_back(std::move(token.text));
          } else {
            directive = {std::move(token.text), {}, here, false, {}};
            begun = true;
          }
          break;
        case Token::Kind::semicolon:
          if (!begun) return wrong(R"(unexpected ";")");
          begun = false;
          if (directive.name != "include") {
            out.push_back(std::exchange(directive, {}));
          } else if (auto problem = include(directive, out)) {
            return problem;
          }
          break;
        case Token::Kind::open:
          if (!begun) return wrong(R"(unexpected "{")");
          begun = false;
          directive.is_block = true;
          if (directive.name.ends_with("_by_lua_block")) {
            if (!lexer.skip_lua()) return wrong("the block of Lua is never closed");
          } else if (depth == deepest_block) {
            return wrong("there are too many blocks in each other");
          } else if (auto problem = block(lexer, path, depth + 1, directive.children)) {
            return problem;
          }
          out.push_back(std::exchange(directive, {}));
          break;
      }
    }
  }

  std::optional<Problem> include(const Directive& directive, std::vector<Directive>& out) {
    if (directive.arguments.size() != 1)
      return Problem{directive.place, "include takes one file or pattern", std::string(try_nginx)};
    const std::string path = resolved(folder_, directive.arguments[0]);
    if (path.find_first_of("*?[") == path.npos) return file(path, directive.place, out);
    for (const std::string& found : files_.match(path)) {
      if (auto problem = file(found, directive.place, out)) return problem;
    }
    return std::nullopt;
  }

  const std::string folder_;
  const Files& files_;
  std::vector<std::string> open_;  // the file that is being read, and those that include it
  std::size_t count_ = 0;
};

}  // namespace

std::string Problem::text() const {
  return config::on_one_line(place.text() + ": " + message + "; " + mend);
}

std::string folder_of(const std::string& file) {
  return file.substr(0, file.rfind('/') + 1);
}

std::string resolved(const std::string& folder, const std::string& path) {
  return path.starts_with('/') ? path : folder + path;
}

std::optional<Problem> read_directives(const std::string& file, const Files& files,
                                       std::vector<Directive>& out) {
  return Parser(file, files).file(file, {file, 0}, out);
}

}  // namespace ringmx::nginx
